"""Bad files of users, through every builder that reads pictures, clips and annotations of one's own.

A build stops at the first with one line that names the item and the file, and leaves no data set; with `skip` all of
them are dead letters, the good ones are built, and every medium of the data set is whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mminstruct import formats
from mminstruct.building import BuildConfig, load_builder, run
from mminstruct.errors import DataError, MediaError, MminstructError
from mminstruct.media import FrameSampling, encode_clip, open_medium

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
    if row is not None and "id" in row("", ""):
        assert str(caught.value).startswith("item 'cut': ")


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


@pytest.mark.parametrize(
    "line", ['{"id": "b", "image": ', '{"id": "b"}', "3", '{"id": "b", "image": 3, "captions": ["x"]}']
)
@pytest.mark.parametrize("case", ["llava", "vlr-if"])
def test_a_broken_annotation_is_told_with_its_file_and_line(case: str, line: str, tmp_path: Path) -> None:
    media(tmp_path, ".png")
    given = options(case, tmp_path, ("a", "z"))
    with (tmp_path / "rows.jsonl").open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(MminstructError, match=r"^\S*rows\.jsonl:3[: ]") as caught:
        run(load_builder(CASES[case][0], given), tmp_path / "set", BuildConfig(on_error="skip"))
    assert "\n" not in str(caught.value) and not (tmp_path / "set").exists()
