"""What `mminstruct build --estimate` says is what a build then asks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mminstruct.building import load_builder, run
from mminstruct.building.call_log import CallLog
from mminstruct.building.estimate import estimate
from mminstruct.building.limits import RateConfig
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
    prices.write_text('date: "2026-01-31"\nsource: made up\nmodels:\n  m: {read: 1.0, written: 2.0}\n')
    options = ("build", "llava", "scenes=10", "--estimate", "--prices", prices)
    code, printed, _ = call(*options, "--model", "m", "--json")
    said = json.loads(printed)
    assert code == 0 and said["requests"] == 30
    assert said["cost"] == pytest.approx((said["read"] + 2 * said["written"]) / 1e6)
    code, printed, _ = call(*options, "--model", "m", "--requests-per-minute", 3)
    assert code == 0 and printed.startswith("llava: 10 items, about 30 requests with 0 pictures, ")
    assert printed.splitlines()[1].startswith("about $0.0") and printed.endswith("at least 10 minutes at this rate\n")
    for wrong, cause in [
        ((*options, "--model", "mm"), "has no price of 'mm'. Did you mean 'm'?"),
        (("build", "easy-vqa", "--estimate"), "easy-vqa asks no model, so it costs nothing"),
        (("build", "llava", "--estimate", "--out", tmp_path / "x"), "--estimate builds nothing; leave --out out"),
    ]:
        code, printed, error = call(*wrong)
        assert (code, printed) == (2, "") and cause in error and error.count("\n") == 1
