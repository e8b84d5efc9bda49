"""Text-rich builders over annotations in the place of an engine: files beside pictures, and data sets built before."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mminstruct import formats
from mminstruct.building import BuildConfig, load_builder, run
from mminstruct.conversation import Conversation
from mminstruct.data_builders.worlds.receipts import receipt
from mminstruct.data_builders.worlds.text_pictures import TextBuilder
from mminstruct.errors import ConfigError, DataError
from mminstruct.evidence.given import box_file
from mminstruct.evidence.ocr import OcrEngine, TextLine
from mminstruct.formats.native import write
from tests.command import call

SPOTTED = re.compile(r"(.*) \[(\d\.\d{3}), (\d\.\d{3}), (\d\.\d{3}), (\d\.\d{3})\]")
COUNT = 3


def built(name: str, out: Path, *options: str) -> list[Conversation]:
    run(load_builder(name, list(options)), out)
    return list(formats.read(out))


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Receipts, each with its lines in another file's name that is allowed."""
    folder = tmp_path / "scans"
    (folder / "in").mkdir(parents=True)
    names = ["a.png", "in/b.png", "in/c.png"]
    for number, (name, beside) in enumerate(zip(names, ["a.csv", "in/b.txt", "in/gt_c.txt"], strict=True)):
        drawn = receipt(0, number)
        drawn.draw().save(folder / name)
        rows = [
            ",".join(f"{edge:g}" for corner in one.quad for edge in corner) + f",{one.text}" for one in drawn.lines()
        ]
        (folder / beside).write_text("\ufeff" + "\r\n".join([*rows, "", "1,1,9,1,9,9,1,9,###"]), encoding="utf-8")
    return folder


def spotted(conversation: Conversation) -> list[tuple[str, tuple[float, ...]]]:
    found = [SPOTTED.fullmatch(row) for row in conversation.messages[1].text.splitlines()]
    assert found
    return [(row[1], tuple(map(float, row.groups()[1:]))) for row in found if row is not None]


def test_annotations_beside_pictures_are_read_as_they_are(scans: Path, tmp_path: Path) -> None:
    found = built("tgdoc", tmp_path / "set", f"source={scans}", "engine=given", "kinds=[spotting]", "least_height=0")
    assert [one.id for one in found] == [f"tgdoc/{name}/spotting" for name in ("a.png", "in/b.png", "in/c.png")]
    for number, one in enumerate(found):
        drawn = receipt(0, number)
        width, height = drawn.size
        expected = {
            (line.text, tuple(round(edge / (width, height)[axis % 2], 3) for axis, edge in enumerate(line.box)))
            for line in drawn.lines()
        }
        assert set(spotted(one)) == expected and len(expected) > 5  # and not what is marked as illegible
        assert one.extra is not None and one.extra["ocr"]["engine"] == "given"


def test_a_folder_of_annotations_of_its_own(scans: Path, tmp_path: Path) -> None:
    before = built("llavar-pretrain", tmp_path / "before", f"source={scans}", "engine=given")
    (tmp_path / "lines/in").mkdir(parents=True)
    for name in ("a.csv", "in/b.txt", "in/gt_c.txt"):
        (scans / name).rename(tmp_path / "lines" / name)
    options = (f"source={scans}", "engine=given", f"annotations={tmp_path / 'lines'}")
    assert before == built("llavar-pretrain", tmp_path / "set", *options) and len(before) == COUNT


def test_a_data_set_is_asked_other_things_without_reading_again(tmp_path: Path) -> None:
    """Spotting of what `llavar-pretrain` kept is spotting of what the worlds know."""
    pictures = "pictures=9"
    built("llavar-pretrain", tmp_path / "read", pictures, "short_edge=null")
    again = built("tgdoc", tmp_path / "places", f"source={tmp_path / 'read'}", "engine=given")
    known = {one.id: one for one in built("tgdoc", tmp_path / "known", pictures)}
    assert len(again) > 20 and {one.id.replace(".png/", "/") for one in again} == set(known)
    compared = 0
    for one in again:
        other = known[one.id.replace(".png/", "/")]
        assert one.media[0].sha256 == other.media[0].sha256
        assert one.extra is not None and one.extra["ocr"]["engine"] == "known"
        if one.task == "tgdoc+spotting":
            for (text, box), (expected, place) in zip(spotted(one), spotted(other), strict=True):
                assert text == expected and box == pytest.approx(place, abs=0.00101)
                compared += 1
    assert compared > 50


class Reader(OcrEngine):
    """Reads what stands in an annotation, and one letter of each line otherwise."""

    name, version = "reader", "1"

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, picture: object) -> list[TextLine]:
        return [TextLine(line.text.replace("o", "0"), line.quad, 0.9) for line in box_file(self.path)]


@pytest.mark.parametrize("name", ["tgdoc", "llavar"])
def test_an_engine_may_be_held_against_annotations(name: str, scans: Path, tmp_path: Path) -> None:
    for file in ("in/b.png", "in/b.txt", "in/c.png", "in/gt_c.txt"):
        (scans / file).unlink()
    builder = load_builder(name, [f"source={scans}", "engine=given", "least_confidence=0"]) if name == "tgdoc" else None
    if builder is None:
        with pytest.raises(ConfigError, match="give engine and second"):
            load_builder(name, [f"source={scans}", "engine=given"])
        builder = load_builder(name, [f"source={scans}", "engine=given", "second=tesseract"])
    assert isinstance(builder, TextBuilder)
    builder.second = Reader(scans / "a.csv")
    run(builder, tmp_path / "set")
    for one in formats.read(tmp_path / "set"):
        assert one.scores is not None and 0 < one.scores["ocr_disagreement"] < 0.2
        assert one.extra is not None and one.extra["ocr"]["second"] == "reader 1"


def test_what_does_not_fit_is_named_and_left_out(scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (scans / "a.csv").unlink()
    (scans / "in/lost.txt").write_text("0,0,9,0,9,9,0,9,Lost\n")
    with (scans / "in/b.txt").open("a") as stream:
        stream.write("\n1,2,3,Total\n")
    (scans / "in/gt_c.txt").write_text("nan,0,9,0,9,9,0,9,Total\n")
    builder = load_builder("tgdoc", [f"source={scans}", "engine=given"])
    with pytest.raises(DataError, match=r"none of 4 items could be used, the first, a\.png"):
        run(builder, tmp_path / "set", BuildConfig(on_error="skip"))
    letters = caplog.text
    for problem in (
        r"scans has no a\.csv or a\.txt or gt_a\.txt for the picture a\.png; add it",
        r"in/b\.txt:\d+ has '1,2,3,Total'; a row is x1,y1",
        r"in/gt_c\.txt:1 has a corner that is not finite",
        r"in/lost\.txt is an annotation of no picture in",
    ):
        assert re.search(problem, letters), (problem, letters)
    code, said, error = call("build", "tgdoc", "--out", tmp_path / "b", f"source={scans}", "engine=given")
    assert code == 2 and said == "" and "has no a.csv or a.txt or gt_a.txt for the picture a.png" in error


def test_a_data_set_that_has_read_nothing(tmp_path: Path) -> None:
    record = next(formats.read(_one(tmp_path)))
    write([record.model_copy(update={"extra": {"ocr": {"engine": "known"}}})], tmp_path / "b")
    for source in (tmp_path / "set", tmp_path / "b"):
        with pytest.raises(
            DataError, match=rf"{source}: .* does not say who read what in it; give a data set of tgdoc"
        ):
            run(load_builder("tgdoc", [f"source={source}", "engine=given"]), tmp_path / "c")


def test_pictures_of_a_data_set_that_were_changed_or_lost(tmp_path: Path) -> None:
    built("llavar-pretrain", tmp_path / "read", "pictures=3")
    broken, lost, _ = sorted((tmp_path / "read/images").rglob("*.png"))
    broken.write_bytes(broken.read_bytes()[:-1])
    lost.unlink()
    builder = load_builder("tgdoc", [f"source={tmp_path / 'read'}", "engine=given"])
    manifest = run(builder, tmp_path / "set", BuildConfig(on_error="skip"))
    assert manifest.images == 3  # of the third picture
    letters = (tmp_path / "set/dead-letters.jsonl").read_text()
    assert letters.count("or not the picture any more that its data set notes") == 2
    assert broken.name in letters and lost.name in letters


def _one(tmp_path: Path) -> Path:
    run(load_builder("llava", ["scenes=1", "kinds=[detail]"]), tmp_path / "set")
    return tmp_path / "set"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["engine=given"], "add source=FOLDER"),
        (["source={scans}"], "add engine=rapidocr, engine=tesseract or engine=given"),
        (["annotations={scans}"], "annotations are read by engine=given"),
    ],
)
def test_options_that_do_not_go_together(options: list[str], told: str, scans: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        load_builder("tgdoc", [one.format(scans=scans) for one in options])


def test_a_folder_of_annotations_that_is_not_there(scans: Path, tmp_path: Path) -> None:
    options = [f"source={scans}", "engine=given", f"annotations={tmp_path / 'none'}"]
    with pytest.raises(DataError, match="none does not exist; check the option annotations"):
        run(load_builder("tgdoc", options), tmp_path / "set")
