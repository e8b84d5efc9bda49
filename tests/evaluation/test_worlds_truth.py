"""Every answer of the benchmark `worlds` is worked out again: from pixels, printed lines or coordinates."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mminstruct.conversation import Conversation
from mminstruct.data_builders.worlds import analytic, functions, geometry
from mminstruct.data_builders.worlds.charts import Chart, chart
from mminstruct.data_builders.worlds.clips import clip
from mminstruct.data_builders.worlds.exam import near_numbers
from mminstruct.data_builders.worlds.posters import poster
from mminstruct.data_builders.worlds.receipts import form, receipt
from mminstruct.data_builders.worlds.scenes import COLORS, GROUNDS, SHAPES
from mminstruct.data_builders.worlds.slides import slide
from mminstruct.evaluation.benchmark import Item, load_benchmark
from mminstruct.evidence.shape_tools import Found, find_shapes
from mminstruct.media import open_image
from tests.building.clip_pixels import Pixels
from tests.building.test_charts import places, scale, where
from tests.building.test_llavar import read_receipt
from tests.building.test_mavis import expected

SAMPLE = 12  # of the 48 questions of each kind; set it to 48 to see all of them judged, in half a minute
NAME = r"((?:\w+) (?:circle|square|triangle|diamond))"


@pytest.fixture
def cache(worlds_cache: Path) -> Path:
    return worlds_cache


def of(cache: Path, kind: str, count: int = 48) -> list[Item]:
    found = load_benchmark("worlds", [f"data_cache={cache}", f"kinds=[{kind}]", f"count={count}"]).questions()
    return random.Random(kind).sample(found, min(SAMPLE, count))


def number(item: Item) -> int:
    return int(item.facts["worlds"][-1].split("/")[2])


def seed(item: Item) -> int:
    return int(item.facts["worlds"][-1].split("/")[1])


def seen(path: Path) -> list[Found]:
    return find_shapes(open_image(path))


def ground(path: Path) -> str:
    pixel = open_image(path).convert("RGB").getpixel((1, 1))
    return next(name for name, color in GROUNDS.items() if color == pixel)


def middle(one: Found) -> tuple[float, float]:
    return (one.box[0] + one.box[2]) / 2, (one.box[1] + one.box[3]) / 2


def in_words(item: Item) -> re.Match[str]:
    """The question, by the pattern that it has."""
    found = next((match for pattern in PATTERNS if (match := re.fullmatch(pattern, item.question))), None)
    assert found is not None, item.question
    return found


PATTERNS = (
    r"How many shapes are there in the picture\?",
    rf"Is the {NAME} (?:to the left or to the right of|above or below|to the left of|above) the {NAME}\?",
    rf"In which corner of the picture is the {NAME}: .*",
    r"Which shape is (farthest to the left|farthest to the right|highest|lowest) in the picture\? .*",
    rf"Which shape is nearest to the {NAME}\? .*",
    rf"Which is larger, the {NAME} or the {NAME}\?",
    rf"Is there an? {NAME} in the picture\?",
    r"How many (\w+?)(?:s| shapes) are there\?",
)


# --- scenes -----------------------------------------------------------------------------------------------------------


def test_counts_are_those_of_the_pixels(cache: Path) -> None:
    for item in of(cache, "counting"):
        found, match = seen(item.images[0]), in_words(item)
        word = match[1] if match.groups() else None
        count = sum(word in (None, one.color, one.shape) for one in found)
        assert item.answers == (str(count),), item


def test_places_are_those_of_the_pixels(cache: Path) -> None:
    for item in of(cache, "spatial"):
        named = {one.name: one for one in seen(item.images[0])}
        match = in_words(item)
        if item.detail in ("left-right", "above-below"):
            axis = item.detail == "above-below"
            one, other = (middle(named[name])[axis] for name in match.groups())
            assert item.answers == ((("left", "right"), ("above", "below"))[axis][one > other],)
        elif item.detail == "corner":
            x, y = middle(named[match[1]])
            assert not 108 < x < 228 and not 108 < y < 228
            assert item.answers == (f"{'top' if y < 112 else 'bottom'} {'left' if x < 112 else 'right'}",)
        elif item.detail == "extreme":
            edge, side = {"left": (0, 1), "right": (2, -1), "highest": (1, 1), "lowest": (3, -1)}[match[1].split()[-1]]
            assert item.answers == (min(named, key=lambda name: side * named[name].box[edge]),)
        elif item.detail == "nearest":
            at = middle(named.pop(match[1]))
            away = sorted((math.dist(at, middle(one)), name) for name, one in named.items())
            assert item.answers == (away[0][1],) and away[1][0] - away[0][0] > 10
        else:
            sizes = {name: named[name].pixels for name in match.groups()}
            assert item.answers == (max(sizes, key=lambda name: sizes[name]),)
        assert set(item.choices) <= {*named, "left", "right", "above", "below", "top left", "top right", "bottom left",
                                     "bottom right"}  # fmt: skip


def test_what_is_said_to_be_there_is_there(cache: Path) -> None:
    said: Counter[tuple[str, str]] = Counter()
    for item in of(cache, "yes-no"):
        named = {one.name: one for one in seen(item.images[0])}
        match = in_words(item)
        if item.detail in ("random", "adversarial"):
            truth = match[1] in named
            parts = {word for name in named for word in name.split()}
            if not truth:
                assert (set(match[1].split()) <= parts) == (item.detail == "adversarial")
                assert bool(set(match[1].split()) & parts) == (item.detail == "adversarial")
        else:
            one, other = (middle(named[name])[item.detail == "above"] for name in match.groups())
            truth = one < other
        assert item.answers == ("yes" if truth else "no",)
        said[item.detail, item.answers[0]] += 1
    assert len(said) == 8


# --- text -------------------------------------------------------------------------------------------------------------


def test_posters_receipts_and_forms_say_so(cache: Path) -> None:
    for item in of(cache, "ocr"):
        gold = item.answers[0]
        if item.detail.startswith("poster"):
            text = " ".join(line.text for line in poster(seed(item), number(item), ("en",)).lines())
            _on_the_poster(item, text, item.detail.removeprefix("poster-"))
        elif item.detail.startswith("receipt"):
            amounts, goods = read_receipt(receipt(seed(item), number(item)))
            if item.detail == "receipt-total":
                assert gold == str(amounts["TOTAL EUR"])
            else:
                count, price = goods[re.findall('"(.+)"', item.question)[0]]
                assert count == 1 and gold == str(price)
            assert set(item.choices) <= {str(amount) for amount in amounts.values()}
        else:
            label = re.findall('"(.+)"', item.question)[0]
            lines = form(seed(item), number(item)).lines()
            at = next(line.box for line in lines if line.text == f"{label}:")
            right = [line for line in lines if line.box[0] > at[2] and abs(line.box[3] - at[3]) < 10]
            assert [line.text for line in right] == [gold]


def _on_the_poster(item: Item, text: str, what: str) -> None:
    """Of the options only the answer stands on the poster."""
    on = [option for option in item.choices if re.search(rf"(?<!\d){re.escape(option)}(?!\w)", text, re.IGNORECASE)]
    assert on == [item.answers[0]], (item, text)
    if what == "time":
        assert re.findall(r"\d+:\d\d", text) == on
    if what == "price":
        assert re.findall(r"\d+", text)[-1:] == on or len(re.findall(rf"(?<!\d){on[0]}(?!\d)", text)) == 1


def test_questions_in_six_languages_have_answers_on_the_poster(cache: Path) -> None:
    asked: Counter[str] = Counter()
    codes = {"english": "en", "german": "de", "french": "fr", "spanish": "es", "russian": "ru", "greek": "el"}
    words = {"time": r"time|Uhr|heure|hora|Во сколько|ώρα", "price": r"euros|Euro|евро|ευρώ"}
    for item in of(cache, "languages"):
        drawn = poster(seed(item), number(item), (codes[item.detail],))
        what = next((name for name, pattern in words.items() if re.search(pattern, item.question)), "")
        text = " ".join(line.text for line in drawn.lines())
        if what == "price":
            last = [line.text for line in drawn.blocks[-1].lines()] if drawn.blocks[-1].angle == 0 else [text]
            assert item.answers[0] in re.findall(r"\d+", " ".join(last)) or item.answers[0] in re.findall(r"\d+", text)
        else:
            _on_the_poster(item, text, what)
        asked[item.detail] += 1
    assert len(asked) == 6


def test_slides_say_and_show_so(cache: Path) -> None:
    for item in of(cache, "slides"):
        drawn = slide(seed(item), number(item))
        pixels = np.asarray(open_image(item.images[0]).convert("RGB"), dtype=np.int16)
        lines = [(text, box) for text, box in drawn.lines()]
        if item.detail == "title":
            assert item.answers[0] == max(lines, key=lambda line: line[1][3] - line[1][1])[0]
        elif item.detail == "page":
            assert item.answers[0] == max(lines, key=lambda line: line[1][0] + line[1][1])[0]
        elif item.detail == "bullet":
            left = sorted((box[1], text) for text, box in lines if 0.05 < box[0] < 0.12 and box[1] > 0.25)
            place = ("first", "second", "third", "fourth").index(item.question.split()[3])
            assert item.answers[0] == left[place][1]
        elif item.detail == "shape":
            assert item.answers == (max(find_shapes(open_image(item.images[0])), key=lambda one: one.pixels).shape,)
        else:
            colored = (pixels[120:384, 420:616] == np.array(COLORS[drawn.accent])).all(axis=2)
            columns = np.flatnonzero(colored.any(axis=0))
            bars = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
            heights = [int(colored[:, bar[len(bar) // 2]].sum()) for bar in bars]
            labels = [
                text for _, text in sorted((box[0], text) for text, box in lines if box[1] > 0.79 and box[0] > 0.6)
            ]
            labels = [text for text in labels if not text.isdigit()]
            assert len(labels) == len(heights)
            if item.detail == "tallest":
                best = max(heights) if "tallest" in item.question else min(heights)
                assert item.answers == (labels[heights.index(best)],)
            else:
                bar = labels.index(re.findall('"(.+)"', item.question)[0])
                assert abs(int(item.answers[0]) - (heights[bar] - 1) / 10.6) < 0.1


# --- charts and figures -----------------------------------------------------------------------------------------------


def measured(one: Chart, pixels: np.ndarray, series: int, label: int) -> float:
    """A value by what is drawn; of tables, by what is written in the cell."""
    if one.kind == "pie":
        disc = pixels[64:265, 30:231]
        areas = [int(where(disc, color).sum()) for color in one.colors]
        return 100 * areas[label] / sum(areas)
    if one.kind == "table":
        text = one.cells()[label + 1][series + 1]
        width, height = 360 // (len(one.series) + 1), min(36, 236 // (len(one.labels) + 1))
        left, top = 20 + width * (series + 1), 44 + height * (label + 1)
        assert places(pixels[top : top + height, left : left + width], text, 13)
        return float(text)
    zero, unit = scale(one, pixels)
    colored = where(pixels[53:], one.colors[series])
    slot = (388 - 62) / len(one.labels)
    if one.kind == "bar":
        columns = np.flatnonzero(colored[3:].any(axis=0))
        bars = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
        top = np.flatnonzero(colored[3:, bars[label][len(bars[label]) // 2]]).min() + 56
        return float((zero - top) * unit)
    x = round(62 + slot * (label + 0.5))
    rows = np.flatnonzero(colored[:, x - 2 : x + 3].all(axis=1)) + 53
    heights = (zero - rows) * unit
    value = one.values[series][label]  # where lines cross, the nearest
    return float(heights[np.abs(heights - value).argmin()]) if len(heights) else float("nan")


def test_charts_show_so(cache: Path) -> None:
    kinds: Counter[str] = Counter()
    for item in of(cache, "charts"):
        one = chart(seed(item), number(item))
        pixels = np.asarray(open_image(item.images[0]).convert("RGB"), dtype=np.int16)
        kinds[one.kind] += 1
        series = next((place for place, name in enumerate(one.series) if f"of {name} " in item.question), 0)
        slack = 0.03 * one.top if one.kind != "pie" else 1.3
        row = [measured(one, pixels, series, label) for label in range(len(one.labels))]
        told, gold = item.question, item.answers[0]
        if item.detail == "value":
            match = re.fullmatch(r"What is the \w+ for (.+?)(?: \((.+)\))?\?", told)
            assert match is not None
            of_series = one.series.index(match[2]) if match[2] else 0
            value = measured(one, pixels, of_series, one.labels.index(match[1]))
            assert abs(float(gold.rstrip("%")) - value) <= slack
        elif item.detail == "extreme":
            assert row[one.labels.index(gold)] == (max if told.endswith("largest?") else min)(row)
        elif item.detail == "above":
            limit = float(re.findall(r"above (\d+)", told)[0])
            assert gold == str(sum(value > limit for value in row))
        else:
            pattern = {
                "compare": r"for (.+) or for (.+)\?",
                "difference": r"for (.+) and (.+)\?",
                "trend": r"From (.+) to (.+), is",
            }[item.detail]
            match = re.search(pattern, told)
            assert match is not None
            at = [one.labels.index(name.rpartition(" for ")[2]) for name in match.groups()]
            first, second = (row[place] for place in at)
            if item.detail == "compare":
                assert gold == match[1 + (second > first)].rpartition(" for ")[2]
            elif item.detail == "difference":
                assert abs(abs(first - second) - float(gold.rstrip("%"))) <= 2 * slack
            else:
                assert gold == ("rising" if second > first else "falling")
    assert len(kinds) == 4


@pytest.mark.parametrize("kind", ["geometry", "functions"])
def test_figures_compute_to_that(cache: Path, kind: str) -> None:
    figures = {"geometry": geometry.figure, "analytic": analytic.figure, "functions": functions.figure}
    for item in of(cache, kind):
        world = item.facts["worlds"][0].split("/")[0]
        figure = figures[world](seed(item), number(item))
        if item.detail == "family":
            assert item.answers[0] in ("logarithmic", figure.kinds[0])
            assert (item.answers[0] == "logarithmic") == (figure.kinds[0] == "logarithm")
            continue
        (ask,) = {one.key: one for one in figure.asks if item.question.endswith(f"What is {one.phrase}?")}.values()
        told = Conversation(
            id="x", messages=[], media=[], extra={"asked": ask.key, "givens": [given.text for given in figure.givens]}
        )
        value = expected(told, figure)
        assert abs(value - int(item.answers[0].rstrip("°"))) < 1e-3 * max(1, abs(value)), item
        for wrong in set(item.choices) - {item.answers[0]}:
            assert abs(value - int(wrong.rstrip("°"))) > 0.5
        if world == "geometry":
            printed = {label for given in figure.givens for label in given.labels}
            assert not printed & set(item.choices)


def test_near_numbers_are_wrong_different_and_allowed() -> None:
    for answer, turn in itertools.product((0, 1, 5, 40), range(40)):
        wrong = near_numbers(answer, (answer, 7, -2, 7), random.Random(turn), least=0)
        assert len(set(wrong)) == 3 and str(answer) not in wrong and min(map(int, wrong)) >= 0


# --- more than one picture --------------------------------------------------------------------------------------------


def test_only_the_rule_explains_all_examples(cache: Path) -> None:
    for item in of(cache, "in-context"):
        *shown, last = [(seen(path), ground(path)) for path in item.images]
        told, gold = item.facts["told"], item.answers[0]
        assert len(told) == len(shown) in (2, 3, 4)
        if item.detail == "naming":
            looks = [_look(*one) for one in [*shown, last]]
            fits = [
                name
                for name in looks[0]
                if len({(look[name], word) for look, word in zip(looks, told, strict=False)}) == 2
            ]
            assert len(fits) == 1, (item, fits)
            assert gold == next(
                word for look, word in zip(looks, told, strict=False) if look[fits[0]] == looks[-1][fits[0]]
            )
            assert sorted(Counter(told).values()) == [2, 2]
        elif item.detail == "number":
            counts = [_counts(found) for found, _ in [*shown, last]]
            fits = [name for name in counts[0] if [str(count[name]) for count in counts[:-1]] == told]
            assert {str(counts[-1][name]) for name in fits} == {gold} and len(fits) == 1, (item, fits)
        else:
            looks = [_look(*one) for one in [*shown, last]]
            fits = [name for name in looks[0] if [look[name] for look in looks[:-1]] == told]
            assert len(fits) == 1 and gold == looks[-1][fits[0]]


def _look(found: list[Found], behind: str) -> dict[str, str]:
    (one,) = found
    return {
        "color": one.color,
        "shape": one.shape,
        "ground": behind,
        "size": "large" if one.box[2] - one.box[0] > 90 else "small",
        "side": "left" if middle(one)[0] < 168 else "right",
    }


def _counts(found: list[Found]) -> dict[str, int]:
    words = {word: sum(word in (one.color, one.shape) for one in found) for word in (*SHAPES, *COLORS)}
    return words | {"all": len(found)}


def test_golds_of_conversations_are_those_of_the_pixels(cache: Path) -> None:
    for item in of(cache, "instructions"):
        found, question = seen(item.images[0]), item.question.rsplit(". ", 1)[-1]
        if question.startswith("How many"):
            truth = {str(len(found))}
        elif "background" in question:
            truth = {ground(item.images[0])}
        else:
            word = re.findall(r"(\w+)\?", question)[0]
            truth = {one.color if word == one.shape else one.shape for one in found if word in (one.color, one.shape)}
        assert truth == set(item.answers)


def test_clips_show_so(cache: Path) -> None:
    judged = 0
    for item in of(cache, "video", 16):
        drawn = clip(seed(item), number(item))
        told = " ".join(
            [mover.name for mover in drawn.movers()]
            + [f"turns {event.detail}" for event in drawn.events() if event.kind == "changes"]
        )
        pixels = Pixels(item.videos[0], told)
        gold, truth = item.answers[0], None
        if item.detail == "scenes":
            truth = gold == str(len(pixels.scenes))
        elif item.detail == "order":
            other = next(choice for choice in item.choices if choice != gold)
            truth = pixels.true(item.question, f"First {gold}, and after that {other}.")
        elif item.detail == "side":
            truth = pixels.true(item.question.split(":")[0] + "?", f"It comes in from the {gold}.")
        else:
            before = item.question.split()[4]
            if {before, gold} <= pixels.single:
                one, other_color = pixels.track(before), pixels.track(gold)
                (x, y, _), (u, v, _) = one[max(one)], other_color[max(one) + 1]
                truth = abs(x - u) + abs(y - v) < 2 and min(other_color) == max(one) + 1
        judged += truth is not None
        assert truth is not False, item
    assert judged >= 4
