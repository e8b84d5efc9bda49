"""MAVIS' tables: published rows become captions and problems, and come back; what does not fit is told with its row."""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from mminstruct import formats
from mminstruct.conversation import Conversation, Media, image, message
from mminstruct.errors import ConfigError, DataError, MediaError, MminstructError
from tests.command import call

TEXTS = (
    "diagram_generation",
    "caption",
    "text_dominant_question",
    "text_lite_question",
    "vision_dominant_question",
    "CoT_reasoning",
)
PICTURES = ("image_text_dominant", "image_text_lite", "image_vision_dominant")
FIELDS = ("options", "answers", "context_ids", "passages", "scores", "provenance")
Make = Callable[..., list[Conversation]]


def png(grey: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (6, 4), grey).save(stream, "PNG")
    return stream.getvalue()


def row(number: int = 0, **changes: Any) -> dict[str, Any]:
    """As the table of CaraJ/MAVIS-Geometry has them, in its order of columns."""
    return {
        **{name: {"bytes": png(10 * number + place), "path": None} for place, name in enumerate(PICTURES)},
        "answer_index": 1,
        "choices": ["12π", "24π"],
        "text_en": dict(zip(TEXTS, (f"{name} {number}" for name in TEXTS), strict=True)),
        "text_zh": dict(zip(TEXTS, (f"中 {name} {number}" for name in TEXTS), strict=True)),
    } | changes


def table(path: Path, *rows: dict[str, Any]) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path


def test_a_published_row_is_a_caption_and_three_problems(tmp_path: Path) -> None:
    path = table(tmp_path / "visualization_small.parquet", row(0), row(1))
    assert formats.detect(path) == formats.detect(tmp_path) == "mavis"
    found = list(formats.read(path, unpack=tmp_path / "out"))
    names = ("caption", "text-dominant", "text-lite", "vision-dominant")
    assert [one.id for one in found] == [f"visualization_small/{n}/{name}" for n in (0, 1) for name in names]
    assert [one.task for one in found[:4]] == [f"mavis+{name}" for name in names]
    shown = [(tmp_path / "out" / one.media[0].path).read_bytes() for one in found[4:]]
    assert shown == [png(10), png(10), png(11), png(12)]
    assert [turn.text for turn in found[0].messages] == ["", "caption 0"]
    lite = found[2]
    assert [turn.text for turn in lite.messages] == [
        "\ntext_lite_question 0\nChoices:\nA. 12π\nB. 24π",
        "CoT_reasoning 0",
    ]
    assert lite.messages[0].content[0] == image(0)
    assert (lite.options, lite.answers) == (["12π", "24π"], ["B"])
    assert [one.extra for one in found[:2]] == [
        {"diagram_generation": "diagram_generation 0"},
        {"diagram_generation": "diagram_generation 0", "problem": "visualization_small/0"},
    ]


def test_chinese_is_read_when_asked_for(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", row())
    chinese = list(formats.read(path, language="zh"))
    assert [one.id for one in chinese] == [
        f"a/0/{name}/zh" for name in ("caption", "text-dominant", "text-lite", "vision-dominant")
    ]
    assert chinese[1].messages[0].text == "\n中 text_dominant_question 0\n选项:\nA. 12π\nB. 24π"
    assert all(one.extra is not None and one.extra["language"] == "zh" for one in chinese)
    both = list(formats.read(path, language="all"))
    assert both == [*formats.read(path), *chinese]


def test_published_columns_come_back(tmp_path: Path) -> None:
    asked = row(2)["text_en"] | {"text_lite_question": "Which?\nChoices:\nA: 12π\nB: 24π"}
    rows = [row(0), row(1, text_zh=None), row(2, text_en=asked)]
    path = table(tmp_path / "a.parquet", *rows)
    found = list(formats.read(path, language="all", unpack=tmp_path))
    assert found[-6].messages[0].text == "\nWhich?\nChoices:\nA: 12π\nB: 24π"  # it names them itself
    formats.write(found, tmp_path / "b.parquet", "mavis")
    written = pyarrow.parquet.read_table(tmp_path / "b.parquet").to_pylist()
    assert [{key: one[key] for key in row()} for one in written] == rows
    assert [(one["id"], one["mminstruct"]) for one in written] == [(f"a/{number}", None) for number in range(3)]
    again = list(formats.read(tmp_path / "b.parquet", language="all", unpack=tmp_path))
    assert again == found


def picture(folder: Path, name: str, grey: int) -> Media:
    (folder / name).write_bytes(png(grey))
    return Media(path=name)


def problem(media: Media, name: str = "p/0", variant: str = "text-dominant", **changes: Any) -> Conversation:
    fields = {
        "id": f"{name}/{variant}",
        "messages": [message("user", image(), "\nHow long?\nChoices:\nA. 1\nB. 2"), message("assistant", "B")],
        "media": [media],
        "task": f"mavis+{variant}",
        "options": ["1", "2"],
        "answers": ["B"],
        "extra": {"problem": name},
    }
    return Conversation.model_validate(fields | changes)


def caption(media: Media, name: str = "p") -> Conversation:
    turns = [message("user", image(), "\nDescribe it."), message("assistant", "A line.")]
    return Conversation(id=f"{name}/caption", messages=turns, media=[media], task="mavis+caption")


def ids(path: Path) -> list[list[str]]:
    """Which conversations each row is."""
    found: list[list[str]] = []
    for number, one in enumerate(pyarrow.parquet.read_table(path).to_pylist()):
        single = table(path.with_name(f"row{number}.parquet"), one)
        found.append([each.id for each in formats.read(single, "mavis", language="all")])
    return found


def test_conversations_of_a_problem_share_a_row_and_others_do_not(tmp_path: Path) -> None:
    one, two = picture(tmp_path, "1.png", 1), picture(tmp_path, "2.png", 2)
    free = {"options": None, "answers": ["2"]}
    given = [
        *(caption(one), problem(one), problem(one, variant="text-lite"), problem(two, variant="vision-dominant")),
        *(problem(one, "p/1"), problem(one, "p/1", "text-lite", **free)),  # another answer
        *(problem(one, "p/2", "text-lite"), problem(one, "p/2")),  # another order
        *(caption(two, "q"), problem(one, "r/0")),  # the caption of another figure
        *(problem(one, "s"), problem(two, "s", "text-lite", messages=[message("user", image(), "\nHow long?"),
                                                                     message("assistant", "Two.")])),
    ]  # fmt: skip
    path = tmp_path / "a.parquet"
    assert formats.write(given, path, "mavis") == len(given)
    kept = [one.model_copy(update={"media": []}) for one in formats.read(path)]
    assert kept == [one.model_copy(update={"media": []}) for one in given]
    names = [len(row) for row in ids(path)]
    assert names == [4, 1, 1, 1, 1, 1, 1, 1, 1]
    first = pyarrow.parquet.read_table(path).to_pylist()[0]
    assert first["id"] == "p/0" and first["image_vision_dominant"]["bytes"] == png(2)
    assert first["text_en"]["text_lite_question"] == "How long?" and first["text_en"]["CoT_reasoning"] == "B"
    assert (first["choices"], first["answer_index"]) == (["1", "2"], 1)


def test_every_field_of_a_record_comes_back(tmp_path: Path, random_conversations: Make) -> None:
    shown = picture(tmp_path, "1.png", 1)
    given = []
    for number, one in enumerate(random_conversations(5, count=60)):
        media = shown.model_copy(update={"width": number or None})
        fields = {name: getattr(one, name) for name in FIELDS}
        fields |= {"id": f"{one.id}/{number}", "task": f"mavis+{('caption', 'text-lite')[number % 2]}"}
        extra = one.extra if number % 2 == 0 else (one.extra or {}) | {"problem": f"{number // 4}"}
        given.append(problem(media, **fields, extra=extra))
    formats.write(given, tmp_path / "a.parquet", "mavis")
    found = list(formats.read(tmp_path / "a.parquet", unpack=tmp_path))
    assert len({one.media[0].path for one in found}) == 1
    media = [one.media[0].model_copy(update={"path": found[0].media[0].path}) for one in given]
    assert found == [one.model_copy(update={"media": [medium]}) for one, medium in zip(given, media, strict=True)]
    formats.write(found, tmp_path / "b.parquet", "mavis")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_build_goes_there_and_back(tmp_path: Path) -> None:
    build = tmp_path / "build"
    code, _, error = call("build", "mavis", "--out", build, "figures=3", "problems=2")
    assert code == 0, error
    out, pictures = tmp_path / "deep/a.parquet", tmp_path / "pictures"
    assert call("data", "convert", build, "--to", "mavis", "--out", out)[0] == 0
    code, _, error = call(
        "data", "convert", out, "--to", "native", "--out", tmp_path / "back", "--unpack", pictures, "--language", "all"
    )
    assert code == 0, error
    given, found = (list(formats.read(folder)) for folder in (build, tmp_path / "back"))
    assert [one.id for one in found] == [one.id for one in given]
    for before, after in zip(given, found, strict=True):
        assert (tmp_path / "back" / after.media[0].path).read_bytes() == (build / before.media[0].path).read_bytes()
        media = [before.media[0].model_copy(update={"path": after.media[0].path})]
        assert after == before.model_copy(update={"media": media})
    rows = pyarrow.parquet.read_table(out).to_pylist()
    problems = {one.extra["problem"] for one in given if one.extra and "problem" in one.extra}
    assert {one["id"] for one in rows} == problems and len(rows) == len(problems)
    captions = [one["text_en"]["caption"] for one in rows]
    assert len([one for one in captions if one]) == 3
    noted = json.loads(pyarrow.parquet.read_schema(out).metadata[b"huggingface"])["info"]["features"]
    assert [name for name, one in noted.items() if one.get("_type") == "Image"] == list(PICTURES)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"image_text_lite": None}, "row 1, text-lite has no picture under 'image_text_lite'"),
        ({"answer_index": 2}, "row 1, caption has 2 choices and the answer_index 2"),
        ({"answer_index": -1}, "row 1, caption has 2 choices and the answer_index -1"),
        ({"text_en": row()["text_en"] | {"CoT_reasoning": None}}, "row 1, text-dominant has a question and no 'CoT"),
        ({"mminstruct": "[1]"}, "row 1, caption: the column 'mminstruct' is this project's own"),
        ({"mminstruct": '{"caption": {"id": 1}}'}, "row 1, caption: the column 'mminstruct' is this project's own"),
        ({"mminstruct": '{"caption": {"mminstruct": {"tsk": 1}}}'}, "holds the unknown 'tsk'"),
    ],
)
def test_broken_rows_are_named(changes: dict[str, Any], cause: str, tmp_path: Path) -> None:
    rows = [row(0, **dict.fromkeys(changes)) if "mminstruct" in changes else row(0), row(1, **changes), row(2)]
    path = table(tmp_path / "a.parquet", *rows)
    with pytest.raises(DataError) as caught:
        list(formats.read(path, duplicate_ids="number"))
    assert str(caught.value).startswith(f"{path}, ") and cause in str(caught.value)
    each = formats.FORMATS["mavis"].each
    assert each is not None
    whole = 0
    for _, make in each(path):
        try:
            whole += make().media != []
        except DataError:
            continue
    assert 8 <= whole < 12  # those of the rows around it


@pytest.mark.parametrize(
    "changes",
    [{"choices": "12π"}, {"text_en": "text"}, {"image_text_lite": {"bytes": "x", "path": None}}, {"answer_index": "1"}],
)
def test_columns_of_another_kind_are_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", row(**changes))
    with pytest.raises(DataError, match=f"a.parquet has a column '{next(iter(changes))}' of .*not as MAVIS' is"):
        list(formats.read(path, "mavis"))


def test_records_that_are_no_problem_are_refused(tmp_path: Path) -> None:
    media = picture(tmp_path, "1.png", 1)
    turns = problem(media).messages
    for wrong, cause in (
        (problem(media, task="x+text-lite"), "is of the task 'x\\+text-lite', and MAVIS has mavis\\+caption"),
        (problem(media, task="caption"), "is of the task 'caption'"),
        (problem(media, extra=None), "needs the name of its problem"),
        (problem(media, extra={"problem": "p", "language": "fr"}), "needs the name of its problem"),
        (problem(media, messages=turns[:1]), "has other turns than MAVIS'"),
        (problem(media, messages=[*turns, *turns]), "has other turns than MAVIS'"),
        (problem(media, messages=[message("user", "a ", image()), turns[1]]), "has other turns than MAVIS'"),
        (problem(media, messages=[turns[0], message("assistant", "a", image())]), "has other turns than MAVIS'"),
        (problem(media, messages=[turns[0], message("assistant", "")]), "an empty question or answer"),
        (problem(media, messages=[message("user", image()), turns[1]]), "an empty question or answer"),
    ):
        with pytest.raises(DataError, match=f"conversation 'p/0/text-dominant'.*{cause}"):
            formats.write([problem(media, "good"), wrong], tmp_path / "a.parquet", "mavis")
    for broken, cause in ((b"", "is empty"), (b"no picture", "is not a JPEG")):
        (tmp_path / "1.png").write_bytes(broken)
        with pytest.raises(MediaError, match=rf"conversation 'p/0/text-dominant': .*1\.png {cause}"):
            formats.write([problem(media)], tmp_path / "a.parquet", "mavis")
    (tmp_path / "1.png").unlink()
    with pytest.raises(MediaError, match=r"conversation 'p/0/text-dominant': the image .*1\.png does not exist"):
        formats.write([problem(media)], tmp_path / "a.parquet", "mavis")
    with pytest.raises(ConfigError, match=r"a table of MAVIS' ends in \.parquet"):
        formats.write([problem(media)], tmp_path / "a.json", "mavis")
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_was_cut_or_broken_anywhere_gives_one_line(tmp_path: Path) -> None:
    content = table(tmp_path / "a.parquet", row(0), row(1)).read_bytes()
    rng, path = random.Random(3), tmp_path / "b.parquet"
    outcomes: Counter[bool] = Counter()
    for number in range(120):
        broken = bytearray(content)
        if number % 2:
            del broken[rng.randrange(len(broken)) :]
        else:
            for place in rng.choices(range(len(broken) // 2, len(broken)), k=6):
                broken[place] = rng.randrange(256)
        path.write_bytes(broken)
        try:
            list(formats.read(path, "mavis", language="all", unpack=tmp_path / "out"))
            outcomes[True] += 1
        except MminstructError as error:
            assert "\n" not in str(error) and str(path) in str(error)
            outcomes[False] += 1
    assert outcomes[False] > 60
