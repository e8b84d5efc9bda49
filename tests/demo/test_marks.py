"""Marks: boxes in an answer, words that picture and answer share, and both drawn where they belong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from mminstruct.demo.marks import BOX_COLOUR, WORD_COLOUR, Mark, boxes_of, drawn, words_in
from mminstruct.demo.seen_view import answer_html
from mminstruct.evaluation.parsing.boxes import all_boxes
from mminstruct.evidence.ocr import TextLine, box_quad


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("It is at [0.1, 0.2, 0.5, 0.6], and [0.5,0.5,1,1].", [(0.1, 0.2, 0.5, 0.6), (0.5, 0.5, 1, 1)]),
        ("<box>(12,40),(300,512)</box>", [(12, 40, 300, 512)]),
        ("[[1, 2, 3, 4]]", [(1, 2, 3, 4)]),
        ("{<12><40><30><51>} and (1,2),(3,4)", [(12, 40, 30, 51), (1, 2, 3, 4)]),
        ("1 2 3 4", []),
        ("[1, 2, 3]", []),
    ],
)
def test_all_boxes_of_a_text(text: str, boxes: list[tuple[float, ...]]) -> None:
    assert all_boxes(text) == boxes


def test_numbers_mean_what_the_visitor_says() -> None:
    size = (200, 100)
    assert boxes_of("[0.1, 0.2, 0.5, 0.6]", size, "unit")[0].box == pytest.approx((20, 20, 100, 60))
    assert boxes_of("[100, 200, 500, 600]", size, "thousand")[0].box == pytest.approx((20, 20, 100, 60))
    assert boxes_of("[20, 20, 100, 600]", size, "pixel")[0].box == (20, 20, 100, 100)  # cut at the picture's edge
    assert boxes_of("[300, 20, 400, 60] [50, 50, 10, 90]", size, "pixel") == []


def test_words_are_shared_whatever_their_case_and_marks_around_them() -> None:
    def word(text: str) -> TextLine:
        return TextLine(text, box_quad((1, 2, 3, 4)))

    found = words_in("The sign says stop, 5 a.m.", [word("STOP!"), word("a"), word("5"), word("signs"), word("—")])
    assert [mark.label for mark in found] == ["STOP!", "5"]


def test_marks_are_drawn_at_their_places_and_the_picture_stays_as_it_was() -> None:
    picture = Image.new("RGB", (200, 100), "white")
    marked = drawn(picture, [Mark((20, 40, 60, 80), "1", BOX_COLOUR), Mark((100, 0, 180, 30), "STOP", WORD_COLOUR)])
    assert picture.getcolors() == [(200 * 100, (255, 255, 255))]
    assert marked.getpixel((20, 60)) == (0xE1, 0x1D, 0x48)
    assert marked.getpixel((179, 15)) == (0x25, 0x63, 0xEB)
    assert marked.getpixel((40, 60)) == (255, 255, 255)


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")
def test_a_word_of_the_answer_is_found_in_a_picture(tmp_path: Path) -> None:
    picture = Image.new("RGB", (400, 200), "white")
    ImageDraw.Draw(picture).text((200, 100), "EXIT NOW", fill="black", font=ImageFont.load_default(60), anchor="mm")
    told = answer_html("It says exit.", [picture], "unit", True, tmp_path)
    assert "image 1: EXIT" in told and "NOW" not in told
    (file,) = tmp_path.iterdir()
    colours = Image.open(file).getdata()
    places = [index % 400 for index, colour in enumerate(colours) if colour == (0x25, 0x63, 0xEB)]
    assert 20 < min(places) < 90 and 150 < max(places) < 215  # around EXIT, left of the middle
    assert "No word" in answer_html("Nothing.", [picture], "unit", True, tmp_path)


def test_without_tesseract_the_panel_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    told = answer_html("[0, 0, 1, 1]", [Image.new("RGB", (20, 20))], "unit", True, tmp_path)
    assert "tesseract is not installed" in told and "box 1" in told
