"""Tesseract and RapidOCR read posters whose text and places are known."""

from __future__ import annotations

import logging
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from PIL import Image

from mminstruct.data_builders.worlds.posters import Poster, poster
from mminstruct.errors import ConfigError, MediaError
from mminstruct.evidence import rapid
from mminstruct.evidence.agreement import agreement, matches
from mminstruct.evidence.engines import load_engine
from mminstruct.evidence.measures import edit_distance
from mminstruct.evidence.ocr import OcrEngine, TextLine, read_at, shrinking
from mminstruct.evidence.tesseract import Tesseract, lines_of, words_of

needs_tesseract = pytest.mark.skipif(shutil.which("tesseract") is None, reason="the program tesseract is not installed")

ENGLISH, GERMAN = (poster(0, number, ["en", "de"]) for number in (4, 9))


def error_rate(found: list[TextLine], drawn: Poster, upright: bool = False) -> float:
    """Edits over all lines that are found at their place; every line of the poster has to be."""
    truth = [line for block in drawn.blocks if not (upright and block.angle) for line in block.lines()]
    pairs = matches(truth, found, 0.5)
    assert len(pairs) == len(truth)
    edits = sum(edit_distance(truth[i].text, found[j].text) for i, j in pairs)
    return edits / sum(len(line.text) for line in truth)


@pytest.fixture(scope="module")
def tesseract() -> Tesseract:
    return Tesseract()


@needs_tesseract
def test_tesseract_reads_posters(tesseract: Tesseract) -> None:
    """English; it is not told how text is turned, so what is aslant does not count."""
    found = tesseract.read(ENGLISH.draw().convert("RGB"))
    assert error_rate(found, ENGLISH, upright=True) < 0.03
    assert all(0 <= line.confidence <= 1 and line.text.strip() == line.text for line in found)
    assert tesseract.version.endswith(" eng") and tesseract.name == "tesseract"
    assert tesseract.read(Image.new("RGB", (300, 200), "white")) == []


@needs_tesseract
def test_a_shrunk_picture_gives_places_of_the_large_one(tesseract: Tesseract) -> None:
    assert (shrinking((1000, 512), 256), shrinking((1000, 512), 600), shrinking((10, 10), None)) == (0.5, 1, 1)
    large = ENGLISH.draw().convert("RGB").resize((1024, 1024), Image.Resampling.LANCZOS)
    found = [line.scaled(0.5) for line in read_at(tesseract, large, 512)]
    assert error_rate(found, ENGLISH, upright=True) < 0.03


@needs_tesseract
def test_tesseract_in_several_threads(tesseract: Tesseract) -> None:
    pictures = [ENGLISH.draw().convert("RGB"), Image.new("RGB", (300, 200), "white")]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(tesseract.read, pictures * 2))
    assert found[:2] == found[2:] and found[0] and found[1] == []


@needs_tesseract
def test_what_tesseract_cannot_do_is_said(tesseract: Tesseract, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"no data for the language 'xyz' \(it has .*eng.*tesseract-ocr-xyz"):
        load_engine("tesseract", "eng+xyz")
    with pytest.raises(MediaError, match=r"more than 0\.001 s at a picture of 512 x 512 pixels"):
        hasty = Tesseract()
        monkeypatch.setattr(hasty, "_time_limit", 0.001)
        hasty.read(ENGLISH.draw().convert("RGB"))
    broken = Tesseract()
    monkeypatch.setattr(broken, "_command", [broken._command[0], "stdin", "stdout", "-l", "nothing", "tsv"])
    with pytest.raises(MediaError, match="tesseract failed at a picture of 9 x 9 pixels"):
        broken.read(Image.new("RGB", (9, 9)))


def test_without_the_program_there_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"tesseract is not installed; install it .* or choose the engine rapidocr"):
        load_engine("tesseract")


def test_a_table_of_words_as_lines() -> None:
    """Quotation marks are text; blank words and boxes of paragraphs are none; a line's confidence is by length."""
    head = ["level", "page_num", "block_num", "par_num", "line_num", "word_num"]
    head += ["left", "top", "width", "height", "conf", "text"]
    rows = [
        ["4", "1", "1", "1", "1", "0", "10", "20", "80", "12", "-1", ""],
        ["5", "1", "1", "1", "1", "1", "10", "22", "30", "10", "90", '"Hi'],
        ["5", "1", "1", "1", "1", "2", "44", "20", "46", "12", "30", "there!"],
        ["5", "1", "2", "1", "1", "1", "0", "0", "500", "500", "95", "  "],
        ["5", "1", "3", "1", "1", "1", "5", "60", "20", "9", "96.5", "last"],
    ]
    table = "\n".join("\t".join(row) for row in [head, *rows])
    first, last = lines_of(table)
    assert first.text == '"Hi there!' and first.box == (10, 20, 90, 32)
    assert first.confidence == pytest.approx((3 * 0.9 + 6 * 0.3) / 9)
    assert (last.text, last.confidence, last.box) == ("last", 0.965, (5, 60, 25, 69))
    words = words_of(table)
    assert [word.text for word in words] == ['"Hi', "there!", "last"]
    assert (words[1].box, words[1].confidence) == ((44, 20, 90, 32), 0.3)


@pytest.fixture(scope="module")
def read() -> Iterator[tuple[list[TextLine], list[TextLine]]]:
    """What RapidOCR reads in both posters, in two threads at once, with every connection refused."""
    engine: OcrEngine = load_engine("rapidocr")
    ready = Barrier(2, timeout=120)

    def one(picture: Image.Image) -> list[TextLine]:
        ready.wait()
        return engine.read(picture)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _refused)
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(one, [ENGLISH.draw().convert("RGB"), GERMAN.draw().convert("RGB")])
    yield first, second


def _refused(*_: object) -> None:
    raise AssertionError("a connection was opened")


def test_rapidocr_reads_posters_in_two_threads_and_without_a_network(
    read: tuple[list[TextLine], list[TextLine]],
) -> None:
    """Text that is aslant too."""
    assert any(block.angle for drawn in (ENGLISH, GERMAN) for block in drawn.blocks)
    assert error_rate(read[0], ENGLISH) < 0.03 and error_rate(read[1], GERMAN) < 0.03
    assert all(0 <= line.confidence <= 1 for line in read[0])
    slanted = [block.angle for block in ENGLISH.blocks if block.angle]
    assert all(any(abs(line.angle - angle) < 4 for line in read[0]) for angle in slanted)


@needs_tesseract
def test_two_engines_agree_on_what_both_can_read(
    read: tuple[list[TextLine], list[TextLine]], tesseract: Tesseract
) -> None:
    both = agreement(read[0], tesseract.read(ENGLISH.draw().convert("RGB")))
    assert both.matched >= sum(len(block.rows) for block in ENGLISH.blocks if not block.angle)
    assert both.error_rate < 0.05 and both.disagreement < 0.3
    other = agreement(read[1], tesseract.read(ENGLISH.draw().convert("RGB")))
    assert other.disagreement > 0.8  # of another poster


def test_rapidocr_says_nothing(read: tuple[list[TextLine], list[TextLine]]) -> None:
    """Its logger, which writes of each model that it loads, and warns of each picture without text, is silent."""
    assert not logging.getLogger("RapidOCR").isEnabledFor(logging.ERROR)


def test_what_rapidocr_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rapid._MODELS, "Rec", "other.onnx")
    with pytest.raises(ConfigError, match=r"does not hold other\.onnx; .* models are not downloaded here"):
        load_engine("rapidocr")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"without rapidocr, onnxruntime, cv2; run: pip install mminstruct\[ocr\]"):
        load_engine("rapidocr")
