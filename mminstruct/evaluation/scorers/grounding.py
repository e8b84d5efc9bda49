"""Grounding: whether the box that a model names overlaps the right one, as accuracy at an IoU of 0.5 and others.

    "(12,40),(300,512)" ── first box ── to pixels ──▶ IoU with the gold box ──▶ acc@0.5 (score) ... acc@0.9, IoU

The variants differ in what the numbers mean, which no text says: the model's own convention must be named.

- `qwen-vl`: `(x1,y1),(x2,y2)` in thousandths, divided by 999; the first such pair only, other forms are no box
  (QwenLM/Qwen-VL, eval_mm/evaluate_grounding.py). Counted in 32-bit floats, as there.
- `thousand`: any form, divided by 1000.
- `unit`: any form, in [0, 1] (LLaVA, Shikra; lmms-eval's RefCOCO tasks).
- `pixel`: any form, in pixels (Qwen2.5-VL).

An IoU of exactly the limit counts. A text without a box, and a box without area, has an IoU of 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_lines_or_list, record, records, unique, unique_items
from mminstruct.evaluation.parsing.boxes import Box, first_box, overlap
from mminstruct.evaluation.scorers.metric import Figures, JudgeAll, Metric, Variant, Verdict, each, mean

LIMITS = (0.1, 0.3, 0.5, 0.7, 0.9)
HEADLINE = 0.5
_QWEN = re.compile(r"\((.*?)\),\((.*?)\)")


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


def judge(read: Callable[[str], Box | None], parts: float | None) -> JudgeAll:
    """`judge_all` for boxes in so many parts of the image, None for pixels. The part of a verdict is the IoU."""

    def one(text: str, item: Item) -> Verdict:
        target = record(f"item {item.id}: facts", dict(item.facts), Target)
        box = read(text)
        if box is None:
            return Verdict(0.0, parsed=False, parts=(0.0,))
        found = np.asarray(box, dtype=np.float32)
        if parts is not None:
            found = found / np.float32(parts)
            found[0::2] *= np.float32(target.width)
            found[1::2] *= np.float32(target.height)
        # In 32 bits, as torch: an IoU next to the limit falls on the same side.
        iou = overlap(tuple(found), tuple(np.asarray(target.box, dtype=np.float32)))
        shown = "[" + ", ".join(f"{number:g}" for number in box) + "]"
        return Verdict(float(iou >= HEADLINE), answer=shown, parts=(float(iou),))

    return each(one)


def total(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    """Accuracy at each limit, and the mean IoU."""
    ious = [verdict.parts[0] if verdict.parts else 0.0 for verdict in verdicts]
    found = mean(items, verdicts)
    for limit in LIMITS:
        at = sum(iou >= limit for iou in ious) / len(ious) if ious else None
        found[f"acc@{limit}"] = at
    return found | {"IoU": sum(ious) / len(ious) if ious else None}


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
            judge(qwen_box, 999),
            total,
        ),
        Variant("thousand", "Any form of box, divided by 1000.", judge(first_box, 1000), total),
        Variant(
            "unit", "Any form of box, in parts of the image from 0 to 1 (LLaVA, Shikra).", judge(first_box, 1), total
        ),
        Variant("pixel", "Any form of box, in pixels of the image file (Qwen2.5-VL).", judge(first_box, None), total),
    ),
    files="lines {image, sent, bbox, width, height} and {answer}, or one array of {answer, gt_bbox, hw} for both",
    gold=read_expressions,
    predictions=read_answers,
)
