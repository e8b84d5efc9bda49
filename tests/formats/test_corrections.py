"""`mminstruct data queue` and `correct`: the table goes out, is edited, and comes back with everything checked."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from mminstruct import formats
from mminstruct.building import load_builder, run
from mminstruct.conversation import Conversation, image, message
from mminstruct.media import open_image
from tests.command import call


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three or four questions of each type about two pictures, all with scores but the captions."""
    folder = tmp_path_factory.mktemp("corrections") / "built"
    run(
        load_builder(
            "mminstruct-data", ["quotas={shapes: 1, charts: 1}", "kinds=[caption, judgement, choice, long, short]"]
        ),
        folder,
    )
    return folder


def read_table(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize("name", ["deep/queue.csv", "queue.jsonl"])
def test_corrections_go_round(name: str, built: Path, tmp_path: Path) -> None:
    table, out = tmp_path / name, tmp_path / "new/corrected"
    assert call("data", "queue", built, "--score", "closeness", "--below", 2, "--out", table)[0] == 0
    rows = read_table(table)
    before = {one.id: one for one in formats.read(built)}
    asked = [one for one in before.values() if one.scores]
    assert [row["id"] for row in rows] == [one.id for one in asked]
    assert all((table.parent / row["image"]).is_file() and "closeness" in row["why"] for row in rows)

    def row_of(kind: str, place: int) -> dict[str, Any]:
        return next(row for row in rows if row["id"].endswith(f"{kind}/{place}"))

    row_of("short", 0)["answer"] = 'a "better", longer\nanswer; grün'
    row_of("short", 1)["keep"] = "No "
    row_of("choice", 0)["options"] = "one\ntwo\nthree\nfour"
    row_of("choice", 0)["answer"] = "D"
    row_of("long", 0)["question"] = "What else?"
    rows.remove(row_of("short", 2))  # no row, no change
    write_table(table, rows)
    assert call("data", "correct", built, table, "--out", out) == (
        0,
        f"{out}: {len(before) - 1} conversations\n",
        "",
    )
    after = {one.id: one for one in formats.read(out)}
    gone, short, choice, long = (
        row_of(*place)["id"] for place in (("short", 1), ("short", 0), ("choice", 0), ("long", 0))
    )
    assert list(after) == [name for name in before if name != gone]
    for one in after.values():
        assert open_image(out / one.media[0].path).size == open_image(built / before[one.id].media[0].path).size
        same = one.model_copy(update={"media": before[one.id].media})
        assert (same == before[one.id]) == (one.id not in (short, choice, long))
    assert after[short].messages[1].text == after[short].answers[0] == 'a "better", longer\nanswer; grün'
    assert after[choice].options == ["one", "two", "three", "four"] and after[choice].answers == ["D"]
    lines = after[choice].messages[0].text.split("\n")
    assert lines[2:6] == ["A. one", "B. two", "C. three", "D. four"]
    assert lines[:2] == before[choice].messages[0].text.split("\n")[:2]  # the line in front of the question stays
    assert after[long].messages[0].text == "\nWhat else?" and isinstance(
        after[long].messages[0].content[0], type(image())
    )
    for name in (short, choice, long):
        old, new = before[name].provenance, after[name].provenance
        assert old and new and new.builder == "corrections" and new.parents == [name]
        assert (new.call_ids, new.licence) == (old.call_ids, old.licence)
        assert after[name].extra["before"][0]["answer"] == before[name].messages[1].text
        assert after[name].extra["domain"] == before[name].extra["domain"]


@pytest.mark.parametrize("name", ["queue.csv", "queue.jsonl"])
@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("id", "mminstruct/shapes/0/0/choice/9", "the data set has no record 'mminstruct/shapes/0/0/choice/9'; do not"),
        ("id", "mminstruct/shapes/0/0/choice/1", "the row was not made of this 'mminstruct/shapes/0/0/choice/1'"),
        ("mark", "00", "the row was not made of this 'mminstruct/shapes/0/0/choice/0'"),
        ("turn", "2", "'mminstruct/shapes/0/0/choice/0' has 1 questions, and no number 2"),
        ("turn", "x", "turn: Input should be a valid integer"),
        ("answer", "", "answer: String should have at least 1 character"),
        ("answer", "E", "the answer 'E' is neither an option nor the letter of one"),
        ("keep", "maybe", "keep: Input should be 'yes' or 'no'"),
        ("options", "a\nb\nc", "there are 3 options and had been 4; give as many, all different"),
        ("options", "a\nb\nc\nA", "there are 4 options and had been 4; give as many, all different"),
    ],
)
def test_broken_rows_are_refused_by_line(
    name: str, key: str, value: str, problem: str, built: Path, tmp_path: Path
) -> None:
    table = tmp_path / name
    assert call("data", "queue", built, "--score", "closeness", "--below", 2, "--out", table)[0] == 0
    rows = read_table(table)
    (at,) = [place for place, row in enumerate(rows) if row["id"] == "mminstruct/shapes/0/0/choice/0"]
    rows[at][key] = value
    if value.endswith("choice/1"):
        del rows[at + 1]
    write_table(table, rows)
    line = at + 1
    if name == "queue.csv":  # the header, and rows of several lines
        line = 2 + sum(1 + sum(cell.count("\n") for cell in row.values()) for row in rows[:at])
    code, _, error = call("data", "correct", built, table, "--out", tmp_path / "out")
    assert code == 2 and f"{table}:{line}: {problem}" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_tables_of_spreadsheets(built: Path, tmp_path: Path) -> None:
    """Semicolons and other ends of lines are read; missing columns, cells, quotes and other letters are refused."""
    table = tmp_path / "queue.csv"
    assert call("data", "queue", built, "--score", "support", "--below", 2, "--out", table)[0] == 0
    rows = read_table(table)
    with table.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=";", lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)
    assert call("data", "correct", built, table, "--out", tmp_path / "same")[0] == 0
    assert [one.messages for one in formats.read(tmp_path / "same")] == [one.messages for one in formats.read(built)]
    header = ",".join(rows[0])
    for content, problem in {
        "id,answer\n": "queue.csv:1: the columns are id, answer; keep id, turn",
        f"{header}\na,b\n": "queue.csv:2: the row has 2 cells, not 9",
        f'{header}\n"a": b\n': "queue.csv:2: ",
    }.items():
        table.write_text(content)
        code, _, error = call("data", "correct", built, table, "--out", tmp_path / "out")
        assert code == 2 and problem in error
    table.write_bytes(b"\xff\xfe")
    assert "is not UTF-8 text" in call("data", "correct", built, table, "--out", tmp_path / "out")[2]
    table.unlink()
    assert "does not exist" in call("data", "correct", built, table, "--out", tmp_path / "out")[2]


def test_what_cannot_be_queued(built: Path, tmp_path: Path) -> None:
    arguments = ["data", "queue", built, "--out", tmp_path / "q.csv"]
    assert "no record has a support below 0.1" in call(*arguments, "--score", "support", "--below", 0.1)[2]
    assert "end in .csv or .jsonl" in call("data", "queue", built, "--out", tmp_path / "q.txt")[2]
    assert call(*arguments) == (0, f"{tmp_path / 'q.csv'}: {len(list(formats.read(built)))} questions\n", "")
    assert "already exists" in call(*arguments)[2]


def test_each_turn_is_a_row(tmp_path: Path) -> None:
    record = Conversation(
        id="x",
        messages=[message(role, said) for role, said in zip(["user", "assistant"] * 2, "abcd", strict=True)],
    )
    formats.write([record], tmp_path / "set", "native")
    assert call("data", "queue", tmp_path / "set", "--out", tmp_path / "q.jsonl")[0] == 0
    rows = read_table(tmp_path / "q.jsonl")
    assert [(row["turn"], row["question"], row["answer"]) for row in rows] == [(1, "a", "b"), (2, "c", "d")]
    rows[1]["answer"] = "e"
    write_table(tmp_path / "q.jsonl", rows)
    assert call("data", "correct", tmp_path / "set", tmp_path / "q.jsonl", "--out", tmp_path / "new")[0] == 0
    (one,) = formats.read(tmp_path / "new")
    assert [each.text for each in one.messages] == ["a", "b", "c", "e"]
