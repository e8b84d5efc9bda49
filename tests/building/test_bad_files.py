"""Bad files of users, through every builder that reads pictures, clips and annotations of one's own.

A build stops at the first with one line that names the item and the file, and leaves no data set; with `skip` all of
them are dead letters, the good ones are built, and every medium of the data set is whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mminstruct import formats
from mminstruct.building import BuildConfig, load_builder, run
from mminstruct.errors import DataError, MediaError, MminstructError
from mminstruct.media import FrameSampling, encode_clip, open_medium
from tests.building.public_sets import write_all

GOOD, BAD = ("a", "z"), ("cut", "empty", "missing", "text")  # what they are called after
Rows = Callable[[str, str], dict[str, Any]]


def picture(seed: int, path: Path) -> bytes:
    image = Image.frombytes("RGB", (40, 30), bytes((seed * place * place + place // 7) % 256 for place in range(3600)))
    image.save(path)
    return path.read_bytes()


def clip(seed: int) -> bytes:
    return encode_clip([Image.new("RGB", (32, 32), (level, 80, 40 * seed)) for level in range(0, 200, 10)], 10)


def media(folder: Path, suffix: str) -> None:
    """Two good files, and the bad ones: a clip is cut within its first frame, a picture within its pixels."""
    for seed, name in enumerate(GOOD, start=1):
        path = folder / f"{name}{suffix}"
        whole = picture(seed, path) if suffix == ".png" else clip(seed)
        path.write_bytes(whole)
    start = len(whole) // 2 if suffix == ".png" else whole.index(b"mdat") + 40
    (folder / f"cut{suffix}").write_bytes(whole[:start])
    (folder / f"empty{suffix}").write_bytes(b"")
    (folder / f"text{suffix}").write_bytes(b"neither a picture nor a clip" * 20)


def lines(folder: Path, row: Rows, suffix: str, names: tuple[str, ...]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row(name, f"{name}{suffix}")) + "\n" for name in names))
    return path


def described(name: str, file: str) -> dict[str, Any]:
    return {"id": name, "image": file, "captions": [f"A red bus on the road to {name}."], "instances": []}


def changed(name: str, file: str) -> dict[str, Any]:
    return {"id": name, "images": ["a.png", file], "sentences": ["A cup is gone.", "A dog came."]}


def watched(name: str, file: str) -> dict[str, Any]:
    return {"id": name, "video": file, "sentences": ["Milk is poured."], "timestamps": [[0, 1]]}


def collected(name: str, file: str) -> dict[str, Any]:
    return {"image_path": file, "text": ["EXIT", "Gate 3", f"Way to {name}"]}


# name of the case to (builder, kind of its files, its options but for the source, option of the source, a row of it)
CASES: dict[str, tuple[str, str, list[str], str, Rows | None]] = {
    "llava": ("llava", ".png", [], "facts", described),
    "vlr-if": ("vlr-if", ".png", [], "facts", described),
    "syphus of pictures": ("syphus", ".png", ["preset=difference"], "facts", changed),
    "syphus of clips": ("syphus", ".mp4", ["preset=video"], "facts", watched),
    "mminstruct-data": ("mminstruct-data", ".png", [], "source", collected),
    "captioning of pictures": ("captioning", ".png", ["kinds=[brief]"], "folder", None),
    "captioning of clips": ("captioning", ".mp4", ["kinds=[brief]", "frames=1"], "folder", None),
    "videosavi": ("videosavi", ".mp4", ["frames=2"], "videos", None),
}


def options(case: str, folder: Path, names: tuple[str, ...]) -> list[str]:
    _, suffix, more, source, row = CASES[case]
    given = folder if row is None else lines(folder, row, suffix, names)
    return [f"{source}={given}", *more]


@pytest.mark.parametrize("case", CASES)
def test_every_bad_file_is_a_dead_letter_and_the_good_ones_are_built(case: str, tmp_path: Path) -> None:
    folder, out = tmp_path / "own", tmp_path / "set"
    folder.mkdir()
    builder, suffix, _, _, row = CASES[case]
    media(folder, suffix)
    names = ("a", *BAD, "z")
    run(load_builder(builder, options(case, folder, names)), out, BuildConfig(on_error="skip", workers=2))
    letters = [json.loads(line) for line in (out / "dead-letters.jsonl").read_text().splitlines()]
    left_out = BAD if row is not None else tuple(name for name in BAD if name != "missing")
    assert [one["reason"] for one in letters] == ["media"] * len(left_out)
    for name, letter in zip(left_out, letters, strict=True):
        assert f"{name}{suffix}" in letter["problem"] and "\n" not in letter["problem"]
    found = list(formats.read(out))
    shown = {one.path: one.kind for conversation in found for one in conversation.media}
    parents = {parent for one in found if one.provenance is not None for parent in one.provenance.parents}
    assert len(found) >= 2 and shown and len(parents) >= 2
    for path, kind in shown.items():
        open_medium(kind, out / path, FrameSampling(limit=2))
    assert not list(out.rglob("*.tmp"))


@pytest.mark.parametrize("case", CASES)
def test_the_first_bad_file_stops_the_build_with_one_line(case: str, tmp_path: Path) -> None:
    folder, out = tmp_path / "own", tmp_path / "set"
    folder.mkdir()
    builder, suffix, _, _, row = CASES[case]
    media(folder, suffix)
    with pytest.raises(MediaError, match=rf"cut{suffix}") as caught:
        run(load_builder(builder, options(case, folder, ("a", *BAD))), out)
    assert "\n" not in str(caught.value) and not out.exists()
    if row is not None:
        assert str(caught.value).startswith(f"{folder}/rows.jsonl:2: ")


@pytest.mark.parametrize("case", ["llava", "vlr-if", "syphus of pictures"])
def test_an_id_that_comes_again_is_told_and_left_out(case: str, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    builder, suffix, *_ = CASES[case]
    media(folder, suffix)
    given = options(case, folder, ("a", "z", "a"))
    with pytest.raises(DataError, match=f"two items of {builder} have the id 'a'; give each of the source its own"):
        run(load_builder(builder, given), tmp_path / "raised")
    run(load_builder(builder, given), tmp_path / "set", BuildConfig(on_error="skip", workers=2))
    (letter,) = [json.loads(line) for line in (tmp_path / "set/dead-letters.jsonl").read_text().splitlines()]
    assert (letter["item"], letter["reason"]) == ("a", "data")
    if case != "vlr-if":  # which draws partners from all lines
        run(load_builder(builder, options(case, folder, ("a", "z"))), tmp_path / "once")
        assert list(formats.read(tmp_path / "set")) == list(formats.read(tmp_path / "once"))


@pytest.mark.parametrize("case", ["llava", "syphus of clips"])
def test_a_name_that_leads_out_of_the_data_set_writes_nothing_there(case: str, tmp_path: Path) -> None:
    folder = tmp_path / "deep/er/own"
    folder.mkdir(parents=True)
    builder, suffix, _, source, row = CASES[case]
    media(folder, suffix)
    (folder / f"a{suffix}").rename(folder.parent / f"a{suffix}")
    assert row is not None
    rows = [row("a", f"../a{suffix}"), row("z", f"z{suffix}")]
    (folder / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    before = {path for path in tmp_path.rglob("*")}
    run(load_builder(builder, [f"{source}={folder}/rows.jsonl"]), tmp_path / "x/y/set", BuildConfig(on_error="skip"))
    after = {path for path in tmp_path.rglob("*")} - before
    assert all(
        path.is_relative_to(tmp_path / "x/y/set") or path in (tmp_path / "x", tmp_path / "x/y") for path in after
    )
    (letter,) = [json.loads(line) for line in (tmp_path / "x/y/set/dead-letters.jsonl").read_text().splitlines()]
    assert letter["item"] == "a" and "would lie outside of the data set" in letter["problem"]


def asked(name: str, file: str) -> dict[str, Any]:
    said = [
        {"from": "human", "value": f"<image>\nWhere is {name}?"},
        {"from": "gpt", "value": f"A bus to {name} waits."},
    ]
    return {"id": name, "image": file, "conversations": said}


def captioned(name: str, file: str) -> dict[str, Any]:
    return {"image": file, "caption": f"A red bus on the road to {name}."}


def read(name: str, file: str) -> dict[str, Any]:
    return {"file": file, "lines": [f"Way to {name}"]}


def claimed(name: str, file: str) -> dict[str, Any]:
    return {"id": name, "image_path": file, "caption": f"A red bus on the road to {name}."}


def replied(name: str, file: str) -> dict[str, Any]:
    said = f"Human: <img0>a bus</img0> Where is {name}?\nAssistant: There.\nHuman: Thank you.\nAssistant: Gladly."
    return {"response": said, "image": ["<img0>a bus</img0>"], "image_idx": [file.removesuffix(".png")]}


TOOL = """
from mminstruct.config import Config
from mminstruct.evidence.tool import Tool


class Meter(Tool):
    name, version, does = "meter", "1", "measures"
    arguments = Config

    def run(self, picture, arguments):
        return {}


TOOLS = [Meter()]
"""

# name of the case to (builder, kind of its files, its options, with {rows} and {folder}, a row of its file)
ROWS: dict[str, tuple[str, str, list[str], Rows]] = {
    "llava": ("llava", ".png", ["facts={rows}"], described),
    "llava-plus": ("llava-plus", ".png", ["facts={rows}", "own_tools={folder}/tools.py"], described),
    "vlr-if": ("vlr-if", ".png", ["facts={rows}"], described),
    "syphus": ("syphus", ".mp4", ["preset=video", "facts={rows}"], watched),
    "mminstruct-data": ("mminstruct-data", ".png", ["source={rows}"], collected),
    "textbind": ("textbind", ".png", ["captions={rows}", "topics=1", "noisy=0", "least_of_topic=1"], captioned),
    "textbind by colours": (
        *("textbind", ".png"),
        ["captions={rows}", "topics=1", "noisy=0", "least_of_topic=1", "features=colours"],
        captioned,
    ),
    "textbind of raw records": ("textbind", ".png", ["raw={rows}"], replied),
    "captioning": ("captioning", ".png", ["folder={folder}", "lines={rows}", "kinds=[text]"], read),
    "mm-rait": ("mm-rait", ".png", ["image_cap.queries={rows}", "image_cap.pictures={rows}", "top_k=1"], claimed),
    "mimic-it": ("mimic-it", ".png", ["source={rows}"], asked),
    "mm-instruct-expand": ("mm-instruct-expand", ".png", ["descriptions={rows}"], asked),
}
NO_ROWS = (
    '{"id": "b", "image": ',
    "3",
    '{"id": "b"}',
    '{"id": 7.5, "image": 3, "images": 3, "file": 3, "caption": []}',
)


def of_rows(case: str, folder: Path, names: tuple[str, ...], bad: tuple[str, ...] = ()) -> list[str]:
    """The options of a case whose file has the rows of `names`, and the lines `bad` behind the first.

    With llava-plus in front of it: templates ask nothing about a tool of one's own.
    """
    _, suffix, given, row = ROWS[case]
    media(folder, suffix)
    if case == "captioning":
        for name in BAD:
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
    (folder / "tools.py").write_text(TOOL)
    written = [json.dumps(row(name, f"{name}{suffix}")) for name in names]
    place = 0 if case == "llava-plus" else 1
    (folder / "rows.jsonl").write_text("\n".join([*written[:place], *bad, *written[place:]]) + "\n")
    return [one.format(rows=folder / "rows.jsonl", folder=folder) for one in given]


@pytest.mark.parametrize("case", [case for case in ROWS if case != "llava-plus"])
def test_every_broken_line_is_a_dead_letter_and_the_good_ones_are_built(case: str, tmp_path: Path) -> None:
    folder, out = tmp_path / "own", tmp_path / "set"
    folder.mkdir()
    given = of_rows(case, folder, GOOD, NO_ROWS)
    run(load_builder(ROWS[case][0], given), out, BuildConfig(on_error="skip", workers=2))
    letters = [json.loads(line) for line in (out / "dead-letters.jsonl").read_text().splitlines()]
    problems: dict[str, str] = {}
    for letter in letters:
        assert letter["reason"] == "data" and "\n" not in letter["problem"]
        problems[re.findall(r"rows\.jsonl:(\d+)", letter["problem"])[0]] = letter["problem"]
    assert list(problems) == ["2", "3", "4", "5"] and "rows.jsonl:2 is not JSON" in problems["2"]
    assert len(list(formats.read(out))) >= (1 if "textbind" in case else 2)


@pytest.mark.parametrize("line", NO_ROWS)
@pytest.mark.parametrize("case", ROWS)
def test_a_broken_line_stops_the_build_with_its_file_and_number(case: str, line: str, tmp_path: Path) -> None:
    given = of_rows(case, tmp_path, GOOD, (line,))
    number = 1 if case == "llava-plus" else 2
    with pytest.raises(MminstructError, match=rf"^\S*rows\.jsonl:{number}\b") as caught:
        run(load_builder(ROWS[case][0], given), tmp_path / "set")
    assert "\n" not in str(caught.value) and not (tmp_path / "set").exists()


@pytest.mark.parametrize("case", [case for case in ROWS if case not in ("captioning", "llava-plus")])
def test_a_missing_picture_is_told_with_the_file_and_line_that_name_it(case: str, tmp_path: Path) -> None:
    """In a dead letter, and in the error that stops a build."""
    builder, suffix, _, _ = ROWS[case]
    given = of_rows(case, tmp_path, ("a", "missing", "z"))
    with pytest.raises(MediaError, match=rf"^(item '0/0': )?\S*rows\.jsonl:2\b.*missing{suffix}"):
        run(load_builder(builder, given), tmp_path / "raised")
    if case == "textbind":  # one dialogue of all three
        return
    run(load_builder(builder, given), tmp_path / "set", BuildConfig(on_error="skip"))
    letters = [json.loads(line) for line in (tmp_path / "set/dead-letters.jsonl").read_text().splitlines()]
    assert letters and all(re.match(rf"\S*rows\.jsonl:2\b.*missing{suffix}", one["problem"]) for one in letters)
    assert {one["reason"] for one in letters} == {"media"}


def test_broken_lines_of_what_is_searched_and_of_captions_stop_no_query_and_no_picture(tmp_path: Path) -> None:
    media(tmp_path, ".png")
    lines(tmp_path, claimed, ".png", GOOD)
    (tmp_path / "texts.jsonl").write_text('{"id": "t", "text": "The road to a is long."}\n{"id": \n')
    (tmp_path / "found.jsonl").write_text('{"id": "a", "cands": ["x"]}\n{"id": "z", "cands": 3}\n')
    rows = f"image_rerank.queries={tmp_path}/rows.jsonl"
    more = [f"image_rerank.pictures={tmp_path}/rows.jsonl", f"image_rerank.texts={tmp_path}/texts.jsonl", "top_k=2"]
    run(load_builder("mm-rait", [rows, *more]), tmp_path / "a", BuildConfig(on_error="skip"))
    assert len(list(formats.read(tmp_path / "a"))) == 2
    assert "texts.jsonl:2 is not JSON" in (tmp_path / "a/dead-letters.jsonl").read_text()
    given = [f"image_cap.queries={tmp_path}/rows.jsonl", f"image_cap.retrieved={tmp_path}/found.jsonl"]
    run(load_builder("mm-rait", given), tmp_path / "b", BuildConfig(on_error="skip"))
    letters = [json.loads(line)["problem"] for line in (tmp_path / "b/dead-letters.jsonl").read_text().splitlines()]
    assert ["found.jsonl:2: 'cands'" in letters[0], "no line of the id 'z'" in letters[1]] == [True, True]
    builder = load_builder("llavar", [f"captions={tmp_path}/found.jsonl", "pictures=3"])
    run(builder, tmp_path / "c", BuildConfig(on_error="skip"))
    assert (tmp_path / "c/dead-letters.jsonl").read_text().count("image: Field required; mend or drop it") == 2


def test_llava_plus_leaves_out_a_missing_picture_and_a_broken_line(tmp_path: Path) -> None:
    given = of_rows("llava-plus", tmp_path, ("missing",), NO_ROWS)
    with pytest.raises(DataError, match=r"none of 5 items could be used, the first, \S*rows\.jsonl:1, for this"):
        run(load_builder("llava-plus", given), tmp_path / "set", BuildConfig(on_error="skip"))
    found = (tmp_path / "set.unfinished/build.jsonl").read_text()
    assert f"{tmp_path}/rows.jsonl:5: the image {tmp_path}/missing.png does not exist" in found


# ---- copies of public data sets --------------------------------------------------------------------------------------


def broken_copies(root: Path) -> list[str]:
    """Miniatures of a set in two files, of one of JSON lines and of COCO's, each with a broken row; the folders."""
    copies = write_all(root)
    path = copies["vqav2"] / "v2_OpenEnded_mscoco_train2014_questions.json"
    told = json.loads(path.read_text())
    told["questions"].insert(1, {"question_id": 1, "question": "Why?", "image_id": 9})
    path.write_text(json.dumps(told))
    path = copies["vsr"] / "train.jsonl"
    path.write_text(path.read_text().rstrip("\n") + '\n{"image": \n')
    path = copies["coco"] / "annotations/instances_train2017.json"
    told = json.loads(path.read_text())
    told["images"].append({"id": 77, "file_name": "../77.jpg", "width": 4, "height": 4})
    told["annotations"].append({**told["annotations"][0], "image_id": 77})
    path.write_text(json.dumps(told))
    return [f"folders.{name}={copies[name]}" for name in ("vqav2", "vsr", "coco")]


BROKEN_ROWS = (
    r"questions\.json, question 1 has no annotation in \S*; the two files are not of one set",
    r"train\.jsonl:\d is not JSON",
    r"train2017\.json, image 2 names the picture '\S*\.\./77\.jpg', which is not in the data set's folder",
)
OF_COPIES = [
    ("vision-flan", ["tasks=[vqav2+answer,vqav2+yes-no,vsr+statement,coco+kinds]", "split=all"], BROKEN_ROWS),
    ("instructblip", ["datasets=[vqav2,vqav2-questions,vsr]", "split=all", "count=40"], BROKEN_ROWS[:2]),
]


@pytest.mark.parametrize(("builder", "given", "problems"), OF_COPIES)
def test_a_broken_row_of_a_public_set_is_a_dead_letter(
    builder: str, given: list[str], problems: tuple[str, ...], tmp_path: Path
) -> None:
    """Once, though two tasks read it; and the others' rows are all there."""
    folders = broken_copies(tmp_path / "copies")[: len(problems)]
    run(load_builder(builder, [*given, *folders]), tmp_path / "set", BuildConfig(on_error="skip", workers=2))
    letters = [json.loads(line) for line in (tmp_path / "set/dead-letters.jsonl").read_text().splitlines()]
    assert {one["reason"] for one in letters} == {"data"} and len(letters) == len(problems)
    for problem in problems:
        assert any(re.search(problem, one["problem"]) for one in letters), problem
    whole = [f"folders.{name}={path}" for name, path in write_all(tmp_path / "whole").items() if name in str(folders)]
    run(load_builder(builder, [*given, *whole]), tmp_path / "good")
    found, expected = ({one.id for one in formats.read(tmp_path / name)} for name in ("set", "good"))
    assert found == expected and len(found) > 5


@pytest.mark.parametrize(("builder", "given", "problems"), OF_COPIES)
def test_the_first_broken_row_of_a_public_set_stops_the_build(
    builder: str, given: list[str], problems: tuple[str, ...], tmp_path: Path
) -> None:
    folders = broken_copies(tmp_path / "copies")[: len(problems)]
    with pytest.raises(DataError, match=problems[0]):
        run(load_builder(builder, [*given, *folders]), tmp_path / "set")
    assert not (tmp_path / "set").exists()
