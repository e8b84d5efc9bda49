"""What can be asked about a chart: a kind gives the slots of a question with its answer, or None where it does not fit.

    KINDS["largest"](chart, chance) ──▶ {"of": " of Arden", "answer": "Jun", "options": [...]}

The words around the slots are not here: they are those of the task or template that asks.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

from mminstruct.data_builders.worlds.charts import COLORS, Chart
from mminstruct.data_builders.worlds.scenes import NUMBERS, listed

Slots = dict[str, Any]

NAMES = {"bar": "bar chart", "line": "line chart", "pie": "pie chart", "table": "table"}
_MARKS = {"bar": "bar", "line": "point", "pie": "slice", "table": "row"}


def _shown(chart: Chart, value: int) -> str:
    return f"{value}%" if chart.kind == "pie" else str(value)


def _series(chart: Chart, chance: random.Random) -> tuple[int, str]:
    """A series, and how a question names it: not at all where it is the only one."""
    index = chance.randrange(len(chart.series))
    return index, f" of {chart.series[index]}" if len(chart.series) > 1 else ""


def _place(chart: Chart, series: int, label: int) -> str:
    return f"{chart.labels[label]} ({chart.series[series]})" if len(chart.series) > 1 else chart.labels[label]


def _mixed(words: Sequence[str], chance: random.Random) -> list[str]:
    return chance.sample(list(words), len(words))


def chart_type(chart: Chart, chance: random.Random) -> Slots | None:
    return {"answer": NAMES[chart.kind], "options": _mixed(list(NAMES.values()), chance)}


def title(chart: Chart, chance: random.Random) -> Slots | None:
    return {"answer": chart.title}


def axis(chart: Chart, chance: random.Random) -> Slots | None:
    if chart.kind not in ("bar", "line"):
        return None
    which = chance.choice(["horizontal", "vertical"])
    return {"axis": which, "answer": chart.label_kind if which == "horizontal" else chart.quantity}


def label_count(chart: Chart, chance: random.Random) -> Slots | None:
    what = {"bar": "labels on the horizontal axis", "line": "labels on the horizontal axis", "pie": "slices"}
    return {"what": what.get(chart.kind, "rows below the head line"), "answer": str(len(chart.labels))}


def series_count(chart: Chart, chance: random.Random) -> Slots | None:
    if chart.kind == "pie":
        return None
    what = {"bar": "colors of bars", "line": "lines", "table": "columns with numbers"}[chart.kind]
    return {"what": what, "answer": str(len(chart.series))}


def value(chart: Chart, chance: random.Random) -> Slots | None:
    if chart.kind == "table":
        return None
    series, label = chance.randrange(len(chart.series)), chance.randrange(len(chart.labels))
    return {
        "place": _place(chart, series, label),
        "quantity": chart.quantity,
        "answer": _shown(chart, chart.values[series][label]),
    }


def cell(chart: Chart, chance: random.Random) -> Slots | None:
    if chart.kind != "table":
        return None
    series, label = chance.randrange(len(chart.series)), chance.randrange(len(chart.labels))
    return {"row": chart.labels[label], "column": chart.series[series], "answer": str(chart.values[series][label])}


def label_of_value(chart: Chart, chance: random.Random) -> Slots | None:
    series, of = _series(chart, chance)
    label = chance.randrange(len(chart.labels))
    return {
        "value": _shown(chart, chart.values[series][label]),
        "of": of,
        "label_kind": chart.label_kind.lower(),
        "answer": chart.labels[label],
        "options": list(chart.labels),
    }


def _ranked(rank: int) -> Callable[[Chart, random.Random], Slots | None]:
    def ranked(chart: Chart, chance: random.Random) -> Slots | None:
        """The label whose value is at a place of the order from the largest down."""
        series, of = _series(chart, chance)
        order = sorted(zip(chart.values[series], chart.labels, strict=True), reverse=True)
        return {
            "of": of,
            "label_kind": chart.label_kind.lower(),
            "answer": order[rank][1],
            "value": _shown(chart, order[rank][0]),
            "options": list(chart.labels),
        }

    return ranked


def order(chart: Chart, chance: random.Random) -> Slots | None:
    series, of = _series(chart, chance)
    found = [label for _, label in sorted(zip(chart.values[series], chart.labels, strict=True), reverse=True)]
    return {"of": of, "labels": ", ".join(chart.labels), "answer": ", ".join(found)}


def compare(chart: Chart, chance: random.Random) -> Slots | None:
    series, of = _series(chart, chance)
    one, other = chance.sample(range(len(chart.labels)), 2)
    row = chart.values[series]
    return {
        "one": chart.labels[one],
        "other": chart.labels[other],
        "of": of,
        "answer": chart.labels[one if row[one] > row[other] else other],
        "options": [chart.labels[one], chart.labels[other]],
    }


def difference(chart: Chart, chance: random.Random) -> Slots | None:
    series, of = _series(chart, chance)
    one, other = chance.sample(range(len(chart.labels)), 2)
    a, b = chart.values[series][one], chart.values[series][other]
    return {
        "one": chart.labels[one],
        "other": chart.labels[other],
        "of": of,
        "larger": max(a, b),
        "smaller": min(a, b),
        "answer": str(abs(a - b)),
    }


def value_range(chart: Chart, chance: random.Random) -> Slots | None:
    series, of = _series(chart, chance)
    row = chart.values[series]
    return {"of": of, "larger": max(row), "smaller": min(row), "answer": str(max(row) - min(row))}


def total(chart: Chart, chance: random.Random) -> Slots | None:
    if chart.kind == "pie":
        return None
    series, of = _series(chart, chance)
    row = chart.values[series]
    return {"of": of, "sum": " + ".join(map(str, row)), "answer": str(sum(row))}


def mean(chart: Chart, chance: random.Random) -> Slots | None:
    series, of = _series(chart, chance)
    row = chart.values[series]
    if chart.kind == "pie" or sum(row) % len(row):
        return None
    return {
        "of": of,
        "total": sum(row),
        "count": len(row),
        "answer": str(sum(row) // len(row)),
    }


def above(chart: Chart, chance: random.Random) -> Slots | None:
    """How many values of a series are above a limit that none of them is."""
    series, of = _series(chart, chance)
    row = chart.values[series]
    limits = [limit for limit in range(chart.step, max(row), chart.step) if limit not in row]
    if chart.kind == "pie":
        limits = [limit for limit in range(10, 50, 5) if limit not in row]
    if not limits:
        return None
    limit = chance.choice(limits)
    return {"limit": _shown(chart, limit), "of": of, "answer": str(sum(value > limit for value in row))}


def color_of_name(chart: Chart, chance: random.Random) -> Slots | None:
    names = _legend(chart)
    if names is None:
        return None
    index = chance.randrange(len(names))
    return {
        "name": names[index],
        "mark": _MARKS[chart.kind] if chart.kind != "line" else "line",
        "answer": chart.colors[index],
        "options": _mixed(list(COLORS), chance),
    }


def name_of_color(chart: Chart, chance: random.Random) -> Slots | None:
    names = _legend(chart)
    if names is None:
        return None
    index = chance.randrange(len(names))
    mark = {"bar": "bars stand", "line": "line stands", "pie": "slice stands"}[chart.kind]
    return {"color": chart.colors[index], "mark": mark, "answer": names[index], "options": list(names)}


def _legend(chart: Chart) -> tuple[str, ...] | None:
    """The names in the order of the colors, where the picture has a legend."""
    if chart.kind == "pie":
        return chart.labels
    return chart.series if chart.colors and len(chart.series) > 1 else None


def trend(chart: Chart, chance: random.Random) -> Slots | None:
    if chart.kind != "line":
        return None
    series, of = _series(chart, chance)
    start = chance.randrange(len(chart.labels) - 1)
    before, after = chart.values[series][start : start + 2]
    return {
        "of": of,
        "one": chart.labels[start],
        "other": chart.labels[start + 1],
        "answer": "rises" if after > before else "falls",
        "options": ["rises", "falls"],
    }


def greatest_change(chart: Chart, chance: random.Random) -> Slots | None:
    """Between which neighbours a line changes most, where that is plain."""
    if chart.kind != "line":
        return None
    series, of = _series(chart, chance)
    row = chart.values[series]
    changes = sorted((abs(after - before), index) for index, (before, after) in enumerate(itertools.pairwise(row)))
    if changes[-1][0] - changes[-2][0] < chart.step:
        return None
    index = changes[-1][1]
    spans = [f"{one} to {other}" for one, other in itertools.pairwise(chart.labels)]
    return {"of": of, "answer": spans[index], "options": spans}


def best_series(chart: Chart, chance: random.Random) -> Slots | None:
    """Which series has the largest value at one label."""
    if len(chart.series) < 2:
        return None
    label = chance.randrange(len(chart.labels))
    best = max(range(len(chart.series)), key=lambda index: chart.values[index][label])
    return {
        "label": chart.labels[label],
        "series_kind": chart.series_kind.lower(),
        "answer": chart.series[best],
        "options": list(chart.series),
    }


def together(chart: Chart, chance: random.Random) -> Slots | None:
    """The share that two slices make together."""
    if chart.kind != "pie":
        return None
    one, other = chance.sample(range(len(chart.labels)), 2)
    a, b = chart.values[0][one], chart.values[0][other]
    return {"one": chart.labels[one], "other": chart.labels[other], "a": a, "b": b, "answer": f"{a + b}%"}


def majority(chart: Chart, chance: random.Random) -> Slots | None:
    """Whether the largest slice is more than half."""
    if chart.kind != "pie" or max(chart.values[0]) == 50:
        return None
    return {"answer": "yes" if max(chart.values[0]) > 50 else "no", "options": ["yes", "no"]}


def statement(chart: Chart, chance: random.Random) -> Slots | None:
    """A sentence about the chart, true or false with equal chance."""
    series, of = _series(chart, chance)
    row = chart.values[series]
    truth = chance.random() < 0.5
    if chance.random() < 0.5:
        one, other = chance.sample(range(len(row)), 2)
        words = "larger" if (row[one] > row[other]) == truth else "smaller"
        said = f"The value{of} for {chart.labels[one]} is {words} than that for {chart.labels[other]}."
    else:
        most = chance.choice([True, False])
        best = row.index(max(row) if most else min(row))
        label = best if truth else chance.choice([index for index in range(len(row)) if index != best])
        said = f"The {'largest' if most else 'smallest'} value{of} is that for {chart.labels[label]}."
    return {"statement": said, "answer": "true" if truth else "false", "options": ["true", "false"]}


def summary(chart: Chart, chance: random.Random) -> Slots | None:
    """What the chart is, and where its values are largest and smallest."""
    about = chart.quantity[0].lower() + chart.quantity[1:]
    about = f"the share of {about}" if chart.kind == "pie" else about
    labels = f"{NUMBERS[len(chart.labels)]} {chart.label_kind.lower()}s: {listed(list(chart.labels))}"
    said = [f"A {NAMES[chart.kind]} shows {about} for {labels}."]
    for index, name in enumerate(chart.series):
        row = chart.values[index]
        of = f" of {name}" if len(chart.series) > 1 else ""
        high, low = max(row), min(row)
        said.append(
            f"The largest value{of} is {_shown(chart, high)} for {chart.labels[row.index(high)]}, the smallest "
            f"{_shown(chart, low)} for {chart.labels[row.index(low)]}."
        )
    return {"answer": " ".join(said)}


def transcription(chart: Chart, chance: random.Random) -> Slots | None:
    """All values as the lines of a table."""
    return {"answer": "\n".join(" | ".join(row) for row in chart.cells())}


def question(chart: Chart, chance: random.Random) -> Slots | None:
    """A question that a given answer is right for, and no other label."""
    series, of = _series(chart, chance)
    row = chart.values[series]
    word = chance.choice(["largest", "smallest"])
    label = row.index(max(row) if word == "largest" else min(row))
    return {"given": chart.labels[label], "answer": f"For which {chart.label_kind.lower()} is the value{of} {word}?"}


KINDS: dict[str, Callable[[Chart, random.Random], Slots | None]] = {
    "type": chart_type,
    "title": title,
    "axis": axis,
    "label-count": label_count,
    "series-count": series_count,
    "value": value,
    "cell": cell,
    "label-of-value": label_of_value,
    "largest": _ranked(0),
    "second": _ranked(1),
    "smallest": _ranked(-1),
    "order": order,
    "compare": compare,
    "difference": difference,
    "range": value_range,
    "total": total,
    "mean": mean,
    "above": above,
    "color-of-name": color_of_name,
    "name-of-color": name_of_color,
    "trend": trend,
    "greatest-change": greatest_change,
    "best-series": best_series,
    "together": together,
    "majority": majority,
    "statement": statement,
    "summary": summary,
    "transcription": transcription,
    "question": question,
}
