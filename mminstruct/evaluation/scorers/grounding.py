"""Grounding: whether the box that a model names overlaps the right one, as accuracy at an IoU of 0.5 and others.

    "(12,40),(300,512)" ── first box ── to pixels ──▶ IoU with the gold box ──▶ acc@0.5 (score) ... acc@0.9, IoU

The variants differ in what the numbers mean, which no text says: the model's own convention must be named.

- `qwen-vl`: `(x1,y1),(x2,y2)` in thousandths, divided by 999; the first such pair only, other forms are no box
  (QwenLM/Qwen-VL, eval_mm/evaluate_grounding.py). Counted in 32-bit floats, as there.
- `internvl`: `[a,b,c,d]`; thousandths where the numbers add up to 4 or more, else parts of 1 (OpenGVLab/InternVL,
  eval/refcoco/evaluate_grounding.py). A tiny box of thousandths is so taken for parts of 1.
- `lmms-eval`: `[a, b, c, d]` of plain decimals in parts of 1 (tasks/refcoco/utils_rec.py), which also gives Center_ACC,
  the share of boxes whose centre is inside the right one.
- `thousand`, `unit`, `pixel`: any usual form of box, in thousandths, in parts of 1 (LLaVA, Shikra), in pixels
  (Qwen2.5-VL).

An IoU of exactly the limit counts. A text without a box, and a box without area, has an IoU of 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_lines_or_list, record, records, unique, unique_items
from mminstruct.evaluation.parsing.boxes import Box, first_box, overlap, scaled
from mminstruct.evaluation.scorers.metric import Figures, JudgeAll, Metric, Variant, Verdict, each, mean

LIMITS = (0.1, 0.3, 0.5, 0.7, 0.9)
HEADLINE = 0.5
_QWEN = re.compile(r"\((.*?)\),\((.*?)\)")
_INTERNVL = re.compile(r"\[*\[(.*?),(.*?),(.*?),(.*?)\]\]*")
_DECIMAL = r"\s*(-?\d+(?:\.\d+)?)"
_LMMS_EVAL = re.compile(rf"\[{_DECIMAL},{_DECIMAL},{_DECIMAL},{_DECIMAL}\s*\]")


class Target(Official):
    """The facts of an item: the box (x1, y1, x2, y2) in pixels, and the image's width and height."""

    box: tuple[float, float, float, float]
    width: float
    height: float


def qwen_box(text: str) -> Box | None:
    """The first `(x1,y1),(x2,y2)` as Qwen-VL's scorer reads it: no blank between the pairs, and nothing but numbers."""
    found = _QWEN.search(text)
    if found is None:
        return None
    try:
        (x1, y1), (x2, y2) = ([float(part) for part in corner.split(",")] for corner in found.groups())
    except ValueError:
        return None
    return x1, y1, x2, y2


def internvl_box(text: str) -> Box | None:
    """The first `[a,b,c,d]` as InternVL's scorer reads it."""
    found = _INTERNVL.search(text)
    try:
        return None if found is None else _box(map(float, found.groups()))
    except ValueError:
        return None


def lmms_eval_box(text: str) -> Box | None:
    """The first `[a, b, c, d]` of plain decimal numbers, as lmms-eval reads it."""
    found = _LMMS_EVAL.search(text)
    return None if found is None else _box(map(float, found.groups()))


def _box(numbers: Iterable[float]) -> Box:
    x1, y1, x2, y2 = numbers
    return x1, y1, x2, y2


Places = Callable[[Box, Target], tuple[Box, Box]]
"""A model's box and the target -> both boxes in one measure."""


def in_parts(parts: float) -> Places:
    """Boxes in pixels, from so many parts of the image; in 32 bits, as torch: at a limit both fall on the same side."""

    def places(box: Box, target: Target) -> tuple[Box, Box]:
        sizes = np.asarray([target.width, target.height] * 2, dtype=np.float32)
        return _box(np.asarray(box, dtype=np.float32) / np.float32(parts) * sizes), _in_32_bits(target.box)

    return places


def in_pixels(box: Box, target: Target) -> tuple[Box, Box]:
    """Both boxes as they are."""
    return _in_32_bits(box), _in_32_bits(target.box)


def internvl_parts(box: Box, target: Target) -> tuple[Box, Box]:
    """InternVL's rule: thousandths where the four numbers add up to 4 or more, else parts of 1."""
    return in_parts(1000 if np.asarray(box, dtype=np.float32).sum() >= 4 else 1)(box, target)


def in_units(box: Box, target: Target) -> tuple[Box, Box]:
    """Both boxes in parts of the image from 0 to 1, in 64 bits, as lmms-eval."""
    return box, scaled(target.box, 1 / target.width, 1 / target.height)


def _in_32_bits(box: Box) -> Box:
    return _box(np.asarray(box, dtype=np.float32))


def judge(read: Callable[[str], Box | None], places: Places) -> JudgeAll:
    """`judge_all` of a way to read boxes and to measure them. A verdict's parts: IoU, and whether the centre is inside.

    Where there is no box the centre is that of (0, 0, 0, 0), as in lmms-eval, and inside a box that begins there.
    """

    def one(text: str, item: Item) -> Verdict:
        target = record(f"item {item.id}: facts", dict(item.facts), Target)
        box = read(text)
        mine, gold = places(box or (0.0, 0.0, 0.0, 0.0), target)
        x, y = (mine[0] + mine[2]) / 2, (mine[1] + mine[3]) / 2
        centre = float(gold[0] <= x <= gold[2] and gold[1] <= y <= gold[3])
        iou = float(overlap(mine, gold))
        shown = None if box is None else "[" + ", ".join(f"{number:g}" for number in box) + "]"
        return Verdict(float(iou >= HEADLINE), answer=shown, parsed=box is not None, parts=(iou, centre))

    return each(one)


def total(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    """Accuracy at each limit, the mean IoU, and the share of boxes whose centre is inside the right one."""
    ious = [verdict.parts[0] if verdict.parts else 0.0 for verdict in verdicts]
    found = mean(items, verdicts)
    for limit in LIMITS:
        at = sum(iou >= limit for iou in ious) / len(ious) if ious else None
        found[f"acc@{limit}"] = at
    found["IoU"] = sum(ious) / len(ious) if ious else None
    centres = [verdict.parts[1] if verdict.parts else 0.0 for verdict in verdicts]
    return found | {"Center_ACC": sum(centres) / len(centres) if centres else None}


# --- files ------------------------------------------------------------------------------------------------------------


class _Expression(Official):
    """A line of Qwen-VL's `refcoco_val.jsonl` and its like."""

    bbox: tuple[float, float, float, float]
    width: float
    height: float
    sent: str = ""
    image: str = ""
    id: int | str | None = None


class _Output(Official):
    """What the scorers of Qwen-VL and InternVL keep: answer, gold box and (height, width)."""

    answer: str
    gt_bbox: tuple[float, float, float, float]
    hw: tuple[float, float]


class _Answer(Official):
    answer: str
    id: int | str | None = None


def read_expressions(path: Path) -> list[Item]:
    """`{image, sent, bbox, width, height}` by lines, or outputs `{answer, gt_bbox, hw}`; without `id` places from 0."""

    def item(number: int, place: str, value: object) -> Item:
        if isinstance(value, dict) and "gt_bbox" in value:
            output = record(place, value, _Output)
            facts = {"box": list(output.gt_bbox), "width": output.hw[1], "height": output.hw[0]}
            return Item(id=str(number), facts=facts)
        line = record(place, value, _Expression)
        facts = {"box": list(line.bbox), "width": line.width, "height": line.height}
        name = str(number if line.id is None else line.id)
        return Item(id=name, question=line.sent, facts=facts, cluster=line.image or name)

    return unique_items(
        (place, item(number, place, value)) for number, (place, value) in enumerate(json_lines_or_list(path))
    )


def read_answers(path: Path) -> dict[str, str]:
    """`{answer}` by lines or in an array, with an `id` or in the order of the gold file: id -> text."""
    lines = enumerate(records(json_lines_or_list(path), _Answer))
    return unique((place, str(number if line.id is None else line.id), line.answer) for number, (place, line) in lines)


METRIC = Metric(
    name="grounding",
    summary="Share of boxes with an IoU of at least 0.5 with the right one.",
    variants=(
        Variant(
            "qwen-vl",
            "QwenLM/Qwen-VL, eval_mm/evaluate_grounding.py: (x1,y1),(x2,y2) divided by 999.",
            judge(qwen_box, in_parts(999)),
            total,
        ),
        Variant(
            "internvl",
            "OpenGVLab/InternVL, eval/refcoco/evaluate_grounding.py: [a,b,c,d], in 1/1000 or parts of 1 by their sum.",
            judge(internvl_box, internvl_parts),
            total,
        ),
        Variant(
            "lmms-eval",
            "EvolvingLMMs-Lab/lmms-eval, tasks/refcoco/utils_rec.py: [a, b, c, d] in parts of 1 and nothing else.",
            judge(lmms_eval_box, in_units),
            total,
        ),
        Variant("thousand", "Any form of box, divided by 1000.", judge(first_box, in_parts(1000)), total),
        Variant("unit", "Any form of box, in parts of the image from 0 to 1.", judge(first_box, in_parts(1)), total),
        Variant("pixel", "Any form of box, in pixels of the image file.", judge(first_box, in_pixels), total),
    ),
    files="lines {image, sent, bbox, width, height} and {answer}, or one array of {answer, gt_bbox, hw} for both",
    gold=read_expressions,
    predictions=read_answers,
)
