"""Charts show their values: read back from the pixels, by the colors and by the letters, without the drawing code."""

from __future__ import annotations

import functools
import itertools
import math
import random
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mminstruct.data_builders.worlds import chart_questions, fonts
from mminstruct.data_builders.worlds.appearances import KINDS as CLIP_KINDS
from mminstruct.data_builders.worlds.appearances import clip
from mminstruct.data_builders.worlds.charts import COLORS, KINDS, TOPICS, Chart, Kind, chart
from mminstruct.errors import DataError

COUNT = 100


@functools.cache
def drawn(kind: Kind) -> list[tuple[Chart, np.ndarray]]:
    charts = (chart(3, number) for number in range(COUNT))
    return [(one, np.asarray(one.draw().convert("RGB"), dtype=np.int16)) for one in charts if one.kind == kind]


def where(pixels: np.ndarray, color: str) -> np.ndarray:
    return (pixels == np.array(COLORS[color], dtype=np.int16)).all(axis=2)


@functools.cache
def letters(text: str, size: int, bold: bool) -> np.ndarray:
    """A text as dark pixels, drawn by Pillow as anyone would."""
    face = fonts.font(size, bold=bold)
    picture = Image.new("L", (400, 40), 255)
    ImageDraw.Draw(picture).text((10, 10), text, font=face, fill=0)
    found = np.argwhere(np.asarray(picture) < 255)
    (top, left), (bottom, right) = found.min(axis=0), found.max(axis=0)
    return np.asarray(picture)[top : bottom + 1, left : right + 1] < 128


def places(pixels: np.ndarray, text: str, size: int, bold: bool = False) -> list[tuple[float, float]]:
    """(x, y) of the middle of each place where a text stands in black on something light."""
    wanted = letters(text, size, bold)
    height, width = wanted.shape
    dark = pixels.max(axis=2) < 128
    row = int(wanted.sum(axis=1).argmax())  # its row with most ink is looked for first, as bytes
    pattern = wanted[row].tobytes()
    found = []
    for y in range(dark.shape[0] - height + 1):
        line = dark[y + row].tobytes()
        x = line.find(pattern)
        while x >= 0:
            if (dark[y : y + height, x : x + width] == wanted).all():
                found.append((x + width / 2, y + height / 2))
            x = line.find(pattern, x + 1)
    return found


def scale(one: Chart, pixels: np.ndarray) -> tuple[float, float]:
    """(value of the lowest line, value of one pixel of height), from the numbers beside the axis."""
    margin = pixels[:, :60]
    zero = places(margin, "0", 11)[-1][1]
    high = max(tick for tick in range(one.step, one.step * 12, one.step) if places(margin, str(tick), 11))
    return zero, high / (zero - places(margin, str(high), 11)[0][1])


def test_bars_are_as_high_as_their_values() -> None:
    for one, pixels in drawn("bar"):
        zero, unit = scale(one, pixels)
        for series, row in enumerate(one.values):
            colored = where(pixels[56:], one.colors[series])  # the legend stands above
            columns = np.flatnonzero(colored.any(axis=0))
            bars = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
            assert len(bars) == len(row)
            for bar, value in zip(bars, row, strict=True):
                top = np.flatnonzero(colored[:, bar[len(bar) // 2]]).min() + 56
                assert abs((zero - top) * unit - value) <= 1.6 * unit


def test_points_are_as_high_as_their_values() -> None:
    for one, pixels in drawn("line"):
        zero, unit = scale(one, pixels)
        slot = (388 - 62) / len(one.labels)
        for series, row in enumerate(one.values):
            colored = where(pixels[53:], one.colors[series])
            for label, value in enumerate(row):
                x = round(62 + slot * (label + 0.5))
                rows = np.flatnonzero(colored[:, x - 1 : x + 2].any(axis=1)) + 53
                assert np.abs((zero - rows) * unit - value).min() <= 2 * unit


def test_slices_take_their_shares() -> None:
    for one, pixels in drawn("pie"):
        disc = pixels[64:265, 30:231]
        areas = {color: int(where(disc, color).sum()) for color in one.colors}
        for value, color in zip(one.values[0], one.colors, strict=True):
            assert abs(100 * areas[color] / sum(areas.values()) - value) < 1.2
        assert sum(one.values[0]) == 100


def test_everything_that_is_to_be_read_stands_there() -> None:
    for kind in KINDS:
        for one, pixels in drawn(kind)[:6]:
            assert places(pixels, one.title, 16, bold=True), one.title
            label_size = {"bar": 12, "line": 12, "pie": 13, "table": 13}[kind]
            assert all(places(pixels, label, label_size) for label in one.labels)
            if kind in ("bar", "line"):
                assert places(pixels, one.label_kind, 12, bold=True)
                assert places(np.rot90(pixels, -1), one.quantity, 12, bold=True)
            if kind == "table":
                for row in one.cells()[1:]:
                    heights = [{round(y) for _, y in places(pixels, cell, 13)} for cell in row]
                    assert any(all(any(abs(y - z) <= 2 for z in other) for other in heights) for y in heights[0])
            elif one.printed:
                shown = [f"{value}%" if kind == "pie" else str(value) for row in one.values for value in row]
                assert all(places(pixels, text, 11) for text in shown)


def test_a_printed_value_stands_at_its_own_mark() -> None:
    for one, pixels in drawn("bar"):
        if one.printed and len(one.series) == 1:
            names = [places(pixels, label, 12)[-1][0] for label in one.labels]
            for name, value in zip(names, one.values[0], strict=True):
                assert any(abs(x - name) < 4 for x, _ in places(pixels, str(value), 11))


def test_slices_have_the_colors_of_the_legend() -> None:
    for one, pixels in drawn("pie"):
        for label, color in zip(one.labels, one.colors, strict=True):
            (x, y) = places(pixels, label, 13)[0]
            patch = where(pixels[:, 282:295], color)
            rows = np.flatnonzero(patch.any(axis=1))
            assert x > 295 and rows.min() - 1 <= y <= rows.max() + 1


def test_values_can_be_told_apart_and_titles_fit() -> None:
    topics = set()
    for number in range(1200):
        one = chart(8, number)
        topics.add(one.quantity)
        assert one.kind == KINDS[number % 4] and one == chart(8, number) != chart(9, number)
        assert all(len(set(row)) == len(row) == len(one.labels) >= 3 for row in one.values)
        assert all(len(set(column)) == len(column) for column in zip(*one.values, strict=True))
        assert fonts.font(16, bold=True).getlength(one.title) < 396
        if one.kind in ("bar", "line"):
            assert one.printed or all(value % one.step == 0 for row in one.values for value in row)
            widths = [fonts.font(12).getlength(label) for label in one.labels]
            assert all(a / 2 + b / 2 + 4 < 326 / len(widths) for a, b in itertools.pairwise(widths))
        if one.kind == "pie":
            assert min(one.values[0]) >= 6 and len(set(one.colors)) == len(one.labels)
        assert one.kind != "line" or one.ordered
    assert len(topics) >= len(TOPICS)


def asked(kind: str) -> Iterator[tuple[Chart, dict[str, Any]]]:
    found = 0
    for number in range(240):
        one = chart(5, number)
        slots = chart_questions.KINDS[kind](one, random.Random(number))
        if slots is not None:
            found += 1
            yield one, slots
    assert found >= 20


def test_no_kind_of_question_is_rare_and_each_answer_is_among_its_options() -> None:
    for kind in chart_questions.KINDS:
        answers = set()
        for _, slots in asked(kind):
            answers.add(slots["answer"])
            assert slots["answer"] and slots["answer"] in slots.get("options", [slots["answer"]])
            assert len(set(slots.get("options", []))) == len(slots.get("options", []))
        assert len(answers) >= 2


def test_summaries_and_transcriptions_say_what_the_values_are() -> None:
    for one, slots in asked("transcription"):
        head, *rows = [line.split(" | ") for line in slots["answer"].split("\n")]
        assert head[0] == one.label_kind and [row[0] for row in rows] == list(one.labels)
        read = [[int(cell.rstrip("%")) for cell in row[1:]] for row in rows]
        assert read == [list(column) for column in zip(*one.values, strict=True)]
    for one, slots in asked("summary"):
        for row in one.values:
            for value in (min(row), max(row)):
                assert f"{value}{'%' * (one.kind == 'pie')} for {one.labels[row.index(value)]}" in slots["answer"]


def test_clips_show_one_shape_more_with_each_frame() -> None:
    for number in range(30):
        one = clip(0, number)
        frames = [np.asarray(frame.convert("RGB"), dtype=np.int16) for frame in one.frames()]
        inside = {thing.name: (int(thing.centre[1]), int(thing.centre[0])) for thing in one.order}
        ground = frames[0][0, 0]
        shown = [{name for name, (y, x) in inside.items() if (frame[y, x] != ground).any()} for frame in frames]
        assert [len(after - before) for before, after in itertools.pairwise(shown)] == [1, 1, 1]
        assert shown[-1] == set(inside)
        first = {name: next(index for index, there in enumerate(shown) if name in there) for name in inside}
        for seed in range(10):
            slots = {kind: CLIP_KINDS[kind](one, random.Random(seed)) or {} for kind in CLIP_KINDS}
            assert slots["last"]["answer"] in shown[3] - shown[2]
            assert int(slots["count-first"]["answer"]) == len(shown[0])
            assert int(slots["count-last"]["answer"]) == len(shown[3])
            pair = slots["earlier"]["one"], slots["earlier"]["other"]
            assert first[pair[0]] != first[pair[1]] and slots["earlier"]["answer"] == min(pair, key=first.__getitem__)
            beginning = slots["from-beginning"]
            assert (beginning["answer"] == "yes") == (beginning["name"] in shown[0])


def test_fonts_are_loaded_once_by_any_number_of_threads() -> None:
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(fonts.font(37, "DejaVuSansMono"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in found}) == 1 and len(found) == 8
    assert math.isclose(
        fonts.font(20, "DejaVuSansMono").getlength("ii"), fonts.font(20, "DejaVuSansMono").getlength("WW")
    )
    with pytest.raises(DataError, match=r"there is no font Comic in .*DejaVuSans"):
        fonts.font(12, "Comic")
