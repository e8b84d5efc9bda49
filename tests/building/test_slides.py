"""Slides: what is written stands where it is said to stand, nothing overlaps, and figures are as described."""

from __future__ import annotations

import numpy as np
import pytest

from mminstruct.data_builders.worlds import slides
from mminstruct.data_builders.worlds.scenes import COLORS
from mminstruct.data_builders.worlds.slides import GROUNDS, Slide, slide
from mminstruct.errors import DataError

COUNT = 40
Box = tuple[int, int, int, int]


@pytest.fixture(scope="module")
def drawn() -> list[tuple[Slide, np.ndarray]]:
    return [(one, np.asarray(one.draw())) for one in (slide(0, number) for number in range(COUNT))]


def inside(pixels: np.ndarray, box: Box) -> np.ndarray:
    return pixels[box[1] : box[3], box[0] : box[2]]


def test_the_ink_of_each_line_touches_all_four_sides_of_its_box(drawn: list[tuple[Slide, np.ndarray]]) -> None:
    for one, pixels in drawn:
        ink = (pixels != np.array(GROUNDS[one.ground])).any(axis=2)
        for words in one.words:
            part = inside(ink, words.box)
            assert part.shape == (words.box[3] - words.box[1], words.box[2] - words.box[0]), f"{words} is cut off"
            # The outermost row may be so faint that it is the ground's own colour.
            assert part[:2].any() and part[-2:].any() and part[:, :2].any() and part[:, -2:].any(), (one.id, words)


def test_no_ink_stands_anywhere_else(drawn: list[tuple[Slide, np.ndarray]]) -> None:
    """Without the lines, the figure, the rule below the title and the bullets, the page is its ground."""
    for one, pixels in drawn:
        left = pixels.copy()
        boxes = [words.box for words in one.words] + [(32, 96, 608, 100)]
        boxes += [(bar.box[0], bar.box[1], bar.box[2] + 1, bar.box[3] + 1) for bar in one.bars]
        if one.shape is not None:
            boxes.append((one.shape.box[0], one.shape.box[1], one.shape.box[2] + 1, one.shape.box[3] + 1))
        boxes += [(40, words.box[1] - 8, 54, words.box[3] + 8) for words in one.words if words.role == "bullet"]
        for box in boxes:
            inside(left, box)[:] = GROUNDS[one.ground]
        assert (left == np.array(GROUNDS[one.ground])).all(), one.id


def test_no_two_things_overlap_and_all_are_on_the_page(drawn: list[tuple[Slide, np.ndarray]]) -> None:
    for one, _ in drawn:
        boxes = [words.box for words in one.words] + [bar.box for bar in one.bars]
        boxes += [one.shape.box] if one.shape is not None else []
        for place, (left, top, right, bottom) in enumerate(boxes):
            assert left >= 4 and top >= 4 and right <= slides.WIDTH - 4 and bottom <= slides.HEIGHT - 4
            for other in boxes[:place]:
                apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
                assert apart, (one.id, boxes[place], other)


def test_bars_are_as_high_as_their_values(drawn: list[tuple[Slide, np.ndarray]]) -> None:
    charts = [(one, pixels) for one, pixels in drawn if one.bars]
    assert 10 < len(charts) < 30
    for one, pixels in charts:
        for bar in one.bars:
            column = pixels[120:384, (bar.box[0] + bar.box[2]) // 2]
            rows = (column == np.array(COLORS[one.accent])).all(axis=1).sum()
            assert abs((rows - 1) / 10.6 - bar.value) < 0.1  # 212 pixels are 20
        assert [bar.label for bar in one.bars] == one.texts("label")
        assert [str(bar.value) for bar in one.bars] == one.texts("value")


def test_captions_and_lines_say_what_is_drawn(drawn: list[tuple[Slide, np.ndarray]]) -> None:
    titles = set()
    for one, _ in drawn:
        titles.add(one.title)
        told = " ".join(one.captions())
        assert f'"{one.title}"' in told and one.texts("bullet")[0] in told and one.texts("bullet")[-1] in told
        if one.shape is not None:
            assert one.shape.name in told and not one.bars
        else:
            assert f"for {max(one.bars, key=lambda bar: bar.value).label}, with" in told
        assert [text for text, _ in one.lines()] == [words.text for words in one.words]
        for words, (_, box) in zip(one.words, one.lines(), strict=True):
            assert [box[0] * 640, box[1] * 480, box[2] * 640, box[3] * 480] == pytest.approx(words.box)
    assert titles == set(slides.TOPICS)
    assert slide(0, 5) == slide(0, 5) != slide(1, 5)


def test_fonts_that_are_not_there() -> None:
    from mminstruct.data_builders.worlds.fonts import font

    assert font(20).getname() == ("DejaVu Sans", "Book") and font(20, "DejaVuSerif", bold=True).getname()[1] == "Bold"
    with pytest.raises(DataError, match=r"there is no font Comic in .*it has .*DejaVuSans"):
        font(20, "Comic")
