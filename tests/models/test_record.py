"""Numbers of an evaluation in a zoo row: exactly inserted, once, comments kept, shown by the card."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mminstruct.errors import ConfigError
from mminstruct.models.factory import read_row
from mminstruct.models.record import recorded
from mminstruct.models.row_facts import Measured
from tests.command import call

ROOT = Path(__file__).resolve().parents[2]


def report(folder: Path, **changes: Any) -> Path:
    """A report as `eval` writes it, of one benchmark."""
    folder.mkdir(exist_ok=True)
    numbers = {
        "name": "some-bench",
        "score": 0.98765,
        "score_stderr": 0.00123,
        "best": 1.0,
        "n": 9673,
        "scorer": "exact-match.forgiving",
        "protocol": {"name": "builder"},
        "limit": None,
    } | changes
    code = {"version": "1.2", "commit": "0123456789abcdef", "changed": False}
    content = {"benchmarks": {"some_bench": numbers}, "code": code, "checkpoint": {"weights": "f" * 64}}
    (folder / "report.json").write_text(json.dumps(content))
    (folder / "timing.json").write_text(json.dumps({"created": "2026-01-02T03:04:05+00:00", "machine": "2 cores of X"}))
    return folder / "report.json"


@pytest.fixture
def row(tmp_path: Path) -> Path:
    """A row of one's own: a number already, comments behind it, and keys after it."""
    path = tmp_path / "mine.yaml"
    content = (ROOT / "model_zoo" / "nano-mlp.yaml").read_text().replace("name: nano-mlp", "name: mine")
    old, new = (
        "measured: {reason: not trained and measured yet}",
        (
            "measured:  # ours\n  - benchmark: old\n    metric: accuracy, %\n    value: 50.0\n    source: a page\n"
            "    commit: abc\n    machine: a laptop  # an old one, für uns\n"
            "\n# differences follow\ndifferences: [none that is known]"
        ),
    )
    assert old in content
    path.write_text(content.replace(old, new))
    return path


def test_numbers_are_put_in_once_and_nothing_else_changes(row: Path, tmp_path: Path) -> None:
    before = row.read_text()
    code, out, error = call("zoo", "record", row, report(tmp_path / "run"))
    assert code == 0 and "some-bench, exact-match, %: 98.77" in out, error
    after = row.read_text()
    changes = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]
    assert all(line.startswith("+") for line in changes) and len(changes) == 12
    spec, _ = read_row(row)
    first, second = spec.measured  # type: ignore[misc]
    assert first.benchmark == "old"
    assert second == Measured(
        benchmark="some-bench",
        metric="exact-match, %",
        value=98.77,
        stderr=0.12,
        n=9673,
        protocol="builder",
        scorer="exact-match.forgiving",
        source="mminstruct eval some-bench protocol=builder",
        date="2026-01-02",
        commit="0123456789ab",
        machine="2 cores of X",
        note="weights ffffffffffff",
    )
    code, out, _ = call("zoo", "record", row, report(tmp_path / "run"))
    assert code == 0 and "holds these numbers already" in out and row.read_text() == after


def test_a_newer_number_takes_the_older_ones_place(row: Path, tmp_path: Path) -> None:
    call("zoo", "record", row, report(tmp_path / "run"))
    call("zoo", "record", row, report(tmp_path / "run", scorer="exact-match.strict", score=0.5))
    before = row.read_text()
    call("zoo", "record", row, report(tmp_path / "run", score=0.91))
    spec, _ = read_row(row)
    values = [(one.benchmark, one.scorer, one.value) for one in spec.measured]  # type: ignore[union-attr]
    assert values == [
        ("old", "", 50.0),
        ("some-bench", "exact-match.forgiving", 91.0),
        ("some-bench", "exact-match.strict", 50.0),
    ]
    pairs = zip(before.splitlines(), row.read_text().splitlines(), strict=True)
    assert [(old.strip(), new.strip()) for old, new in pairs if old != new] == [("value: 98.77", "value: 91.0")]


def test_rows_of_the_zoo_take_numbers() -> None:
    """Every third one and that with numbers, whatever `measured` looks like; all other lines stay."""
    entry = Measured(
        benchmark="b", metric="m", value=1.0, source="s", commit="c", machine="m: x # y", date="2026-01-02"
    )
    everything = sorted((ROOT / "model_zoo").glob("*.yaml"))
    paths = [*everything[::3], ROOT / "model_zoo" / "nano.yaml"]
    for path in paths:
        text = path.read_text(encoding="utf-8")
        found = recorded(text, entry, str(path))
        content = yaml.safe_load(found)
        assert content["measured"][-1] == {key: value for key, value in entry.model_dump().items() if value}
        kept = [line for line in text.splitlines() if not line.startswith("measured:")]
        assert [line for line in found.splitlines() if line in kept or not line.strip()] == kept, path.name
        assert recorded(found, entry, str(path)) == found
    assert len(paths) > 20


def test_the_card_shows_what_was_recorded(row: Path, tmp_path: Path) -> None:
    call("zoo", "record", row, report(tmp_path / "run", best=2800.0, score=1510.73, score_stderr=None))
    code, card, _ = call("zoo", "card", row)
    assert code == 0
    (line,) = [line for line in card.splitlines() if line.startswith("| some-bench")]
    assert line == (
        "| some-bench | exact-match | 1510.73 | mminstruct eval some-bench protocol=builder; weights ffffffffffff; "
        "protocol builder, scorer exact-match.forgiving, 9,673 questions, 2026-01-02, commit 0123456789ab, "
        "2 cores of X |"
    )


def test_what_cannot_be_recorded_is_refused(row: Path, tmp_path: Path) -> None:
    before = row.read_text()
    for changes, message in (({"limit": 5}, "only the first 5 questions"), ({"score": None}, "is undefined")):
        code, _, error = call("zoo", "record", row, report(tmp_path / "run", **changes))
        assert code == 2 and message in error
    (tmp_path / "run/report.json").write_text('{"benchmarks": {"a": {}}}')
    code, _, error = call("zoo", "record", row, tmp_path / "run/report.json")
    assert code == 2 and "is no report of this version" in error
    (tmp_path / "run/timing.json").unlink()
    code, _, error = call("zoo", "record", row, tmp_path / "run/report.json")
    assert code == 2 and "timing.json does not exist" in error and row.read_text() == before
    entry = Measured(benchmark="b", metric="m", value=1.0, source="s", commit="c", machine="m")
    for text in ("measured: []\n", "measured: [{benchmark: b}]\n", "measured: none\n", "- a\n"):
        with pytest.raises(ConfigError, match=r"mine\.yaml"):
            recorded(text, entry, "mine.yaml")
