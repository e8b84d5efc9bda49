"""What `mminstruct build --estimate` says is what a build then asks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mminstruct import catalog
from mminstruct.building import load_builder, run
from mminstruct.building.call_log import CallLog
from mminstruct.building.estimate import estimate
from mminstruct.building.limits import RateConfig, read_price
from mminstruct.config import load_yaml
from mminstruct.errors import ConfigError
from tests.command import call


def test_it_is_what_a_build_asks(tmp_path: Path) -> None:
    """Exact where all items are counted; near it where the first fifty speak for four times as many."""
    for scenes in (20, 200):
        builder = load_builder("llava", [f"scenes={scenes}"])
        said = estimate(builder)
        out = tmp_path / str(scenes)
        run(builder, out)
        with CallLog(out / "calls.sqlite") as log:
            calls = list(log.calls())
        read = sum(len(message.text) for _, request, _ in calls for message in request.messages) / 4
        written = sum(len(reply.text) for _, _, reply in calls) / 4
        tolerance = 1e-3 if scenes == 20 else 0.1
        assert (
            (said.items, said.sample, said.requests)
            == (scenes, min(scenes, 50), len(calls))
            == (
                scenes,
                min(scenes, 50),
                3 * scenes,
            )
        )
        assert said.read == pytest.approx(read, rel=tolerance)
        assert said.written == pytest.approx(written, rel=tolerance)
        assert (said.cost, said.minutes, said.pictures) == (None, None, 0)


def test_pictures_and_minutes() -> None:
    builder = load_builder(str(Path(__file__).parent / "asking_builder.py"), ["count=20"])
    said = estimate(builder, rate=RateConfig(requests=4))
    assert (said.requests, said.pictures, said.minutes) == (36, 18, 9.0)  # two of twenty are dropped unasked


def test_the_command(tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text('date: "2026-01-31"\nsource: made up\nmodels:\n  m: {read: 1.0, written: 2.0, batch: 0.25}\n')
    options = ("build", "llava", "scenes=10", "--estimate", "--prices", prices)
    code, printed, _ = call(*options, "--model", "m", "--json")
    said = json.loads(printed)
    assert code == 0 and said["requests"] == 30
    assert said["cost"] == pytest.approx((said["read"] + 2 * said["written"]) / 1e6)
    code, printed, _ = call(*options, "--model", "m", "--requests-per-minute", 3)
    assert code == 0 and printed.startswith("llava: 10 items, about 30 requests with 0 pictures, ")
    lines = printed.splitlines()
    assert lines[1] == f"about $0.02, ${said['cost'] / 30:.6f} a request, by the prices of 2026-01-31 (made up)"
    assert lines[-1] == "at least 10 minutes at this rate"
    full = said["cost"]
    said = json.loads(call(*options, "--model", "m", "--backend", "batch", "--json")[1])
    assert said["cost"] == pytest.approx(full * 0.25)
    assert said["priced"] == "the prices of 2026-01-31 (made up), in batches"
    for wrong, cause in [
        ((*options, "--model", "mm"), "has no price of 'mm'. Did you mean 'm'?"),
        (("build", "easy-vqa", "--estimate"), "easy-vqa asks no model, so it costs nothing"),
        (("build", "llava", "--estimate", "--out", tmp_path / "x"), "--estimate builds nothing; leave --out out"),
    ]:
        code, printed, error = call(*wrong)
        assert (code, printed) == (2, "") and cause in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("prices", "cause"),
    [
        ("models: {m: {read: 1, written: 2}}", "does not say when and where the price of 'm' was read; add date and"),
        ('date: "2026-01-31"\nmodels: {m: {read: 1, written: 2}}', "does not say when and where"),
        ('date: "2026"\nsource: a\nmodels: {m: {read: 1, written: 2}}', "date"),
        ('date: "2026-01-31"\nsource: a\nmodels: {m: {read: 1}}', "models.m.written"),
        ('date: "2026-01-31"\nsource: a\nmodels: {m: {read: -1, written: 2}}', "models.m.read"),
    ],
)
def test_prices_without_a_date_are_refused(prices: str, cause: str, tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(prices)
    with pytest.raises(ConfigError, match=cause):
        read_price(tmp_path / "prices.yaml", "m")


def test_the_prices_of_this_project_say_when_and_where_each_was_read() -> None:
    """A model's own date and source go before those of the file."""
    file = catalog.folder(catalog.BUILDER) / "tasks/prices/openai.yaml"
    for name, row in load_yaml(file)["models"].items():
        price = read_price(file, name)
        assert 0 < price.read < price.written and (price.date, price.source) == (row["date"], row["source"])
        assert price.cached is None or price.cached < price.read
        assert price.batch in (0.5, 1.0)
