"""Posters, receipts and forms: ink is where lines are said to be, and sums add up. All is read off the pixels."""

from __future__ import annotations

import re
from decimal import Decimal

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from mminstruct.data_builders.worlds.lettering import Block, Face, printed
from mminstruct.data_builders.worlds.poster_texts import LANGUAGES
from mminstruct.data_builders.worlds.posters import SIZES, STYLES, Poster, poster
from mminstruct.data_builders.worlds.receipts import Page, form, receipt
from mminstruct.evidence.layout import paragraphs
from mminstruct.evidence.ocr import TextLine

DRAWN: list[Poster | Page] = [
    *(poster(0, number) for number in range(30)),
    *(receipt(0, number) for number in range(15)),
    *(form(0, number) for number in range(9)),
]


def ink(drawn: Poster | Page) -> np.ndarray:
    """Where letters change the picture, [height, width] of how much."""
    lettered, blank = drawn.draw().convert("RGB"), drawn.draw(lettered=False).convert("RGB")
    return np.asarray(ImageChops.difference(lettered, blank)).max(axis=-1).astype(int)


def inside(line: TextLine, size: tuple[int, int]) -> np.ndarray:
    """Pixels of a quad, [height, width]; a rotated one is taken a pixel wider, since its edge is blurred."""
    picture = Image.new("L", size)
    ImageDraw.Draw(picture).polygon([(x - 0.5, y - 0.5) for x, y in line.quad], fill=1, outline=1)
    return np.asarray(picture.filter(ImageFilter.MaxFilter(3)) if line.angle else picture).astype(bool)


@pytest.mark.parametrize("drawn", [*DRAWN[:18], *DRAWN[30:36], *DRAWN[45:]], ids=lambda drawn: drawn.id)
def test_all_ink_is_within_the_quads_and_no_quad_is_empty_or_loose(drawn: Poster | Page) -> None:
    seen = ink(drawn)
    height, width = seen.shape
    left_over = seen.copy()
    for line in drawn.lines():
        assert min(line.box) >= 0 and line.box[2] <= width and line.box[3] <= height
        where = inside(line, (width, height))
        assert (seen[where] > 60).mean() > 0.03, line
        if line.angle == 0:
            columns = np.flatnonzero((seen[where_box(line)] > 30).any(axis=0))
            assert columns[0] <= 2 and line.length - columns[-1] <= 3  # as wide as its ink, and air
        left_over[where] = 0
    assert left_over.max() <= 25
    assert seen.max() > 100


def where_box(line: TextLine) -> tuple[slice, slice]:
    left, top, right, bottom = map(round, line.box)
    return slice(top, bottom), slice(left, right)


def test_a_line_of_known_ink_has_the_quad_of_that_ink() -> None:
    """Against pixels drawn here by another way: letter by letter alike, upright and upside down."""
    face = Face("sans", 30, bold=True)
    block = Block(("Hxp",), face, (0, 0, 0), 20, 10)
    picture = printed((150, 80), (255, 255, 255), [block])
    plain = Image.new("L", (300, 160), 255)
    ImageDraw.Draw(plain).text((60, 60), "Hxp", fill=0, font=face.font)
    box = ImageChops.invert(plain).getbbox()
    assert box is not None
    (line,) = block.lines()
    left, top, right, bottom = ImageChops.invert(picture.convert("L")).getbbox() or (0, 0, 0, 0)
    assert (right - left, bottom - top) == (box[2] - box[0], box[3] - box[1])
    assert line.box[0] <= left <= line.box[0] + 2 and line.box[2] - 2 <= right <= line.box[2]
    assert line.box[1] <= top <= line.box[1] + 4 and line.box[3] - 2 <= bottom <= line.box[3]
    around = Block(("Hxp",), face, (0, 0, 0), 20, 10, angle=180).lines()[0]
    assert around.quad[0] == pytest.approx(line.quad[2]) and abs(around.angle) == pytest.approx(180)


def test_posters_vary() -> None:
    posters = [poster(0, number) for number in range(42)]
    assert {one.language for one in posters} == set(LANGUAGES)
    assert {one.size for one in posters} == set(SIZES) and {one.style for one in posters} == set(STYLES)
    faces = {(block.face.family, block.face.bold, block.face.italic) for one in posters for block in one.blocks}
    assert len(faces) >= 8
    assert 12 < sum(any(block.angle for block in one.blocks) for one in posters) < 36
    assert len({one.blocks for one in posters}) == 42
    assert poster(0, 7) == poster(0, 7) != poster(1, 7)
    assert poster(0, 7).draw().tobytes() == poster(0, 7).draw().tobytes()


def test_every_letter_of_every_language_is_in_the_fonts() -> None:
    """A letter that a font lacks would be drawn as its box, like any other that it lacks."""
    for family in ("sans", "serif", "mono"):
        font = Face(family, 24).font  # type: ignore[arg-type]
        missing = bytes(font.getmask("\U000f1234"))
        for texts in LANGUAGES.values():
            said = [*texts.titles, *texts.bodies, *texts.places, *texts.badges, texts.months, texts.price, texts.free]
            for letter in sorted(set("".join(said))):
                assert not letter.strip() or bytes(font.getmask(letter)) != missing, (family, letter)


def test_contrast_of_every_style_can_be_read() -> None:
    """At least 4.5 to 1, as web pages are asked to have (WCAG 2.1)."""

    def luminance(color: tuple[int, int, int]) -> float:
        parts = [part / 255 for part in color]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for name, (ground, *letters) in STYLES.items():
        for color in letters:
            low, high = sorted((luminance(ground), luminance(color)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, name


def test_layout_finds_the_blocks_of_posters() -> None:
    """The paragraphs of the lines are the blocks that were drawn, in their order."""
    for drawn in DRAWN[:30]:
        assert isinstance(drawn, Poster)
        lines = drawn.lines()
        found = [[line.text for line in one.lines] for one in paragraphs(list(reversed(lines)))]
        assert found == [list(block.rows) for block in drawn.blocks]


def test_what_a_poster_knows_stands_on_it() -> None:
    for drawn in DRAWN[:30]:
        assert isinstance(drawn, Poster)
        said = [" ".join(block.rows) for block in drawn.blocks]
        assert {"title", "price"} <= set(drawn.facts)
        for name in set(drawn.facts) - {"price"}:
            assert any(drawn.facts[name] in one for one in said)
        priced = [one for one in said if re.search(rf"\b{drawn.facts['price']} (euro|Euro|евро|ευρώ)", one)]
        assert len(priced) == (drawn.facts["price"] != "0")


def test_sums_of_receipts_add_up() -> None:
    """Read off the lines, each amount by the label that stands at its height."""
    for drawn in DRAWN[30:45]:
        assert isinstance(drawn, Page)
        lines = drawn.lines()
        amounts = {}
        for line in lines:
            if re.fullmatch(r"\d+\.\d\d", line.text):
                level = (line.box[1] + line.box[3]) / 2
                (label,) = [one for one in lines if one is not line and one.box[1] < level < one.box[3]]
                amounts[label.text] = Decimal(line.text)
        labels = list(amounts)
        end = labels.index("TOTAL EUR")
        total = amounts["TOTAL EUR"]
        assert sum(amounts[label] for label in labels[:end]) == total == Decimal(drawn.facts["total"])
        for label in labels[:end]:
            if match := re.fullmatch(r"(\d) x (\d+\.\d\d)", label):
                assert int(match[1]) * Decimal(match[2]) == amounts[label]
        (taxed,) = [label for label in labels if label.startswith("including tax")]
        rate = int(re.findall(r"(\d+)%", taxed)[0])
        assert abs(total * rate / (100 + rate) - amounts[taxed]) <= Decimal("0.005")
        if "Cash" in amounts:
            assert amounts["Cash"] - total == amounts["Change"] == Decimal(drawn.facts["change"]) > 0
        else:
            assert amounts["Card"] == total


def test_fields_of_forms_stand_behind_their_labels() -> None:
    for drawn in DRAWN[45:]:
        lines = drawn.lines()
        for label, answer in drawn.facts.items():
            if label != "title":
                (one,) = [line for line in lines if line.text == f"{label}:"]
                (other,) = [line for line in lines if line is not one and abs(line.box[3] - one.box[3]) <= 3]
                assert other.text == answer and one.box[2] < other.box[0]
