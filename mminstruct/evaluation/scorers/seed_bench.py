"""SEED-Bench: 19,242 multiple choice questions of 12 types, 9 of pictures and 3 of videos.

    text ── letter ──▶ equal to the gold letter? ──▶ 0 or 1

- `llava`: haotian-liu/LLaVA, scripts/convert_seed_for_submission.py: the text is the letter and nothing else ("A." is
  wrong). The official eval.py (AILab-CVC/SEED-Bench) ranks the options by their likelihood and writes the first one's
  letter, which is compared in the same way.
- `lmms-eval`: tasks/seedbench/utils.py: the first character, blanks aside, in any case, so "Because" and "a bird" are
  B and A.
- `vlmevalkit`: `can_infer` without a judge.

Ranking and generating are different benchmarks: lmms-eval's PR #47 reports 0.11 to 0.17 for LLaVA by ranking, and 0.6
by generating. A question without a prediction is wrong. Figures: each question type, and `image accuracy` and `video
accuracy`, by LLaVA's names.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field

from mminstruct.errors import DataError
from mminstruct.evaluation.circular import judge_letters
from mminstruct.evaluation.figures import mean_of_parts
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_lines_or_list, records, unique, unique_items
from mminstruct.evaluation.parsing.letters import vlmevalkit_letter
from mminstruct.evaluation.scorers.metric import Metric, Variant, Verdict, each, missing_is_wrong
from mminstruct.files import as_text, read_json


def _letter(text: str, item: Item) -> Verdict:
    known = len(text) == 1 and text in string.ascii_uppercase
    return Verdict(float(text in item.answers), text if known else None, parsed=known)


def _parts(item: Item) -> Iterator[str]:
    if item.kind:
        yield item.kind
    if item.facts.get("data_type"):
        yield f"{item.facts['data_type']} accuracy"


class _Question(Official):
    question_id: str | int
    question: str = ""
    choice_a: str
    choice_b: str
    choice_c: str
    choice_d: str
    answer: str
    data_id: str | int = ""
    data_type: str = ""
    question_type_id: int | None = None


class _Answer(Official):
    question_id: str | int = Field(validation_alias=AliasChoices("question_id", "q_id"))
    text: str | None = None
    prediction: str | None = None


class _Judged(Official):
    """A line of the authors' results, which hold the gold answer too."""

    question_id: str | int = Field(validation_alias=AliasChoices("question_id", "q_id"))
    gt: str = Field(validation_alias=AliasChoices("gt_answer", "gt"))
    q_type_id: int | None = None


def read_gold(path: Path) -> list[Item]:
    """SEED-Bench.json, `{"questions": [...], "question_type": {name: id}}`, or the authors' results with gold answers.

    Images are file names: `data_id`, or for questions on videos `TYPE_QUESTION.png`, the frame in the middle. Results
    are JSON lines {q_id, prediction, gt, q_type_id} or {question_id, prediction, gt_answer}, with or without a comma at
    the end of a line.
    """
    value = _questions(path)
    if value is None:
        return unique_items((place, _judged_item(line)) for place, line in records(_lines(path), _Judged))
    names = {number: name for name, number in (value.get("question_type") or {}).items()}
    entries = ((f"{path}: entry {number}", entry) for number, entry in enumerate(value["questions"]))
    return unique_items((place, _item(line, names)) for place, line in records(entries, _Question))


def _questions(path: Path) -> dict[str, Any] | None:
    """The object with the key `questions`; None for a file of several lines."""
    try:
        value = read_json(path)
    except DataError:
        if not path.is_file():
            raise
        return None
    if isinstance(value, dict) and "prediction" in value:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("questions"), list):
        raise DataError(f"{path} is not a JSON object with a list 'questions'; give SEED-Bench.json")
    return value


def _item(line: _Question, names: Mapping[object, str]) -> Item:
    number = line.question_type_id
    frame = line.data_type == "video"  # LLaVA's extract_video_frames.py names the middle frame so
    picture = f"{number}_{line.question_id}.png" if frame else str(line.data_id)
    return Item(
        id=str(line.question_id),
        images=(Path(picture),) if picture else (),
        question=line.question,
        answers=(line.answer,),
        kind="" if number is None else names.get(number, f"Data type {number}"),
        cluster=str(line.data_id or line.question_id),
        choices=(line.choice_a, line.choice_b, line.choice_c, line.choice_d),
        facts={"data_type": line.data_type} if line.data_type else {},
    )


def _judged_item(line: _Judged) -> Item:
    kind = "" if line.q_type_id is None else f"Data type {line.q_type_id}"
    return Item(id=str(line.question_id), answers=(line.gt,), kind=kind, cluster=str(line.question_id))


def read_answers(path: Path) -> dict[str, str]:
    """JSON lines {question_id, text}, a submission {question_id, prediction}, or the authors' results."""
    lines = records(_lines(path), _Answer)
    return unique((place, str(line.question_id), _words(place, line)) for place, line in lines)


def _words(place: str, line: _Answer) -> str:
    words = line.text if line.text is not None else line.prediction
    if words is None:
        raise DataError(f"{place} has neither text nor prediction; give one of them")
    return words


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    """As `json_lines_or_list`, and lines may end with a comma, as in the published results of GPT-4V."""
    with as_text(path):
        text = path.read_text(encoding="utf-8-sig")
    if not text.lstrip().startswith("{"):
        yield from json_lines_or_list(path)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        bare = line.strip().removesuffix(",")
        if bare:
            try:
                yield f"{path}:{number}", json.loads(bare)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}:{number} is not JSON ({error.msg}); mend or drop the line") from None


METRIC = Metric(
    name="seed-bench",
    summary="Accuracy on SEED-Bench: multiple choice on pictures and videos, by question type.",
    variants=(
        Variant(
            "llava",
            "LLaVA, convert_seed_for_submission.py, and a submission to the leaderboard: the text is the letter.",
            each(_letter),
            mean_of_parts(_parts),
        ),
        Variant(
            "lmms-eval",
            "lmms-eval, tasks/seedbench/utils.py: the first character of the text, blanks aside, in any case.",
            each(lambda text, item: _letter(text.strip()[:1].upper(), item)),
            mean_of_parts(_parts),
        ),
        Variant(
            "vlmevalkit",
            "VLMEvalKit, matching_util.py, can_infer without a judge; what it cannot read is wrong.",
            judge_letters(vlmevalkit_letter),
            mean_of_parts(_parts),
        ),
    ),
    files="SEED-Bench.json, or results with gt; JSON lines {question_id, text} or {question_id, prediction}",
    gold=read_gold,
    predictions=read_answers,
    pairing=missing_is_wrong,
)
