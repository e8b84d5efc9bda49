"""VQA accuracy: how far a prediction agrees with the answers that people gave, in its published variants.

    golds [10 strings] ─ normalise? ─▶ for each annotator left out: min(1, matches among the others / 3) ─ mean ─▶ score

With ten golds of which m equal the prediction the score is 0, .3, .6, .9, 1 for m = 0, 1, 2, 3, >= 4 (and not m / 3).
The variants differ in what is normalised before the comparison, and in who is left out:

- `official-2021`: GT-Vision-Lab/VQA, PythonEvaluationTools/vqaEvaluation/vqaEval.py since its commit a013f00 (March
  2021). Prediction and golds are normalised where the golds differ from each other; unanimous golds are compared as
  they stand, so "Black." is wrong for ten times "black".
- `official-2016`: the same file before (e.g. commit c4e6a0e). The prediction is always normalised in full; of the golds
  only the punctuation is, and only where they differ from each other.
- `evalai`: facebookresearch/mmf, `EvalAIAnswerProcessor` and `TextVQAAccuracyEvaluator`. Both sides are always
  normalised, after a first step that deletes commas and question marks. LLaVA's scripts use it for TextVQA, VQAv2 and
  VizWiz.
- `lmms-eval`: its tasks/vqav2/utils.py since pull request 794 (August 2025), and open_flamingo's eval/vqa_metric.py:
  both sides always normalised by the official steps. `lmms-eval-2024` is the former before pull request 760: the
  prediction is normalised by EvalAI's steps and, where the golds differ, once more by the official ones.
- `vlmevalkit`: its dataset/utils/vqa_eval.py: both sides always normalised, by the official steps but for the full stop
  after a digit, which stays: "2." is not "2". `vlmevalkit-2024` is the same before the change: it goes.

Annotators are left out by their place in `evalai` and `vlmevalkit`; the others leave out every record that equals
theirs (`parsing/vqa_votes.py`), which matters only in files without `answer_id`. Figures: the mean for each answer type
and question type, which the official file rounds to two decimals of a per cent (perAnswerType, perQuestionType).

The official files are made for ten golds, and mmf asserts ten. Of n golds, a match with min(3, n - 1) others is full
credit here: with four and more this is the official formula; with two or three it lets an answer that everybody gave
score 1; one gold is a plain match.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from mminstruct.errors import DataError
from mminstruct.evaluation.answer_files import texts_by_id
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_list, record, records, unique_items
from mminstruct.evaluation.parsing import vqa_normalise
from mminstruct.evaluation.parsing.vqa_normalise import one_line, punctuation
from mminstruct.evaluation.parsing.vqa_votes import Vote, facts_of, leave_equal_out, leave_one_out, marks_of
from mminstruct.evaluation.scorers.metric import Figures, JudgeAll, Metric, Variant, Verdict, each, mean
from mminstruct.files import read_json

VqaScore = Callable[[str, Sequence[str], Sequence[str]], float]
"""(prediction, golds, marks of the annotators) -> score."""


def official_2021(prediction: str, answers: Sequence[str], marks: Sequence[str] = ()) -> float:
    """The official VQA accuracy since March 2021; see the module's text."""
    prediction, golds = one_line(prediction), [one_line(answer) for answer in answers]
    if len(set(golds)) > 1:
        prediction, golds = vqa_normalise.official(prediction), [vqa_normalise.official(gold) for gold in golds]
    return leave_equal_out(prediction, golds, marks)


def official_2016(prediction: str, answers: Sequence[str], marks: Sequence[str] = ()) -> float:
    """The official VQA accuracy before March 2021; see the module's text."""
    golds = list(answers)
    if len(set(golds)) > 1:
        golds = [punctuation(gold) for gold in golds]
    return leave_equal_out(vqa_normalise.official(prediction), golds, marks)


def evalai(prediction: str, answers: Sequence[str], marks: Sequence[str] = ()) -> float:
    """VQA accuracy as the EvalAI server and mmf compute it; see the module's text."""
    return leave_one_out(evalai_answer(prediction), [evalai_answer(answer) for answer in answers])


def lmms_eval(prediction: str, answers: Sequence[str], marks: Sequence[str] = ()) -> float:
    """VQA accuracy of lmms-eval's VQAv2 task since August 2025, and of open_flamingo."""
    found = vqa_normalise.official
    return leave_equal_out(found(prediction), [found(answer) for answer in answers], marks)


def lmms_eval_2024(prediction: str, answers: Sequence[str], marks: Sequence[str] = ()) -> float:
    """VQA accuracy of lmms-eval's VQAv2 task before July 2025: the prediction may be normalised twice."""
    prediction, golds = evalai_answer(prediction), [one_line(answer) for answer in answers]
    if len(set(golds)) > 1:
        prediction, golds = vqa_normalise.official(prediction), [vqa_normalise.official(gold) for gold in golds]
    return leave_equal_out(prediction, golds, marks)


def vlmevalkit(prediction: str, answers: Sequence[str], marks: Sequence[str] = ()) -> float:
    """VQA accuracy of VLMEvalKit, since it keeps the full stop after a digit."""
    found = vqa_normalise.vlmevalkit
    return leave_one_out(found(prediction), [found(answer) for answer in answers])


def vlmevalkit_2024(prediction: str, answers: Sequence[str], marks: Sequence[str] = ()) -> float:
    """VQA accuracy of VLMEvalKit before."""
    found = vqa_normalise.official
    return leave_one_out(found(prediction), [found(answer) for answer in answers])


def evalai_answer(text: str) -> str:
    """A prediction as LLaVA's scripts send it to the EvalAI server, and as `evalai` compares it."""
    return vqa_normalise.evalai(text)


def by_votes(score: VqaScore) -> JudgeAll:
    """`judge_all` of a VQA accuracy. Every text counts as parsed."""
    return each(lambda text, item: Verdict(score(text, item.answers, marks_of(item)), answer=text))


def by_types(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    """The mean over all, and over each answer type (`kind`) and question type (`detail`)."""
    figures = mean(items, verdicts)
    for name, types in (
        ("perAnswerType", [item.kind for item in items]),
        ("perQuestionType", [item.detail for item in items]),
    ):
        scores: dict[str, list[float]] = defaultdict(list)
        for found, verdict in zip(types, verdicts, strict=True):
            if found:
                scores[found].append(verdict.score)
        figures |= {f"{name} {found}": math.fsum(parts) / len(parts) for found, parts in sorted(scores.items())}
    return figures


class _Annotation(Official):
    question_id: int | str
    image_id: int | str
    answers: tuple[Vote, ...]
    question_type: str = ""
    answer_type: str = ""


def read_annotations(path: Path) -> list[Item]:
    """`{"annotations": [{question_id, image_id, answers: [{answer, ...} x 10], question_type, answer_type}]}`."""
    return unique_items(
        (
            place,
            Item(
                id=str(line.question_id),
                answers=tuple(vote.answer for vote in line.answers),
                kind=line.answer_type,
                detail=line.question_type,
                cluster=str(line.image_id),
                facts=facts_of(line.answers),
            ),
        )
        for place, line in records(json_list(path, "annotations"), _Annotation)
    )


class _Question(Official):
    question_id: int | str
    image_id: int | str
    question: str


class _Header(Official):
    data_subtype: str = ""


def read_questions(questions: Path, annotations: Path) -> tuple[str, list[Item]]:
    """The split's name (`data_subtype`) and the items of a questions file, in its order, with their annotations.

    `{"data_subtype": "val2014", "questions": [{question_id, image_id, question}]}`; `cluster` is the image's id.

    Raises:
        DataError: a file is not as described, or the two do not hold the same questions.
    """
    golds = {item.id: item for item in read_annotations(annotations)}
    items = []
    for place, line in records(json_list(questions, "questions"), _Question):
        gold = golds.get(str(line.question_id))
        if gold is None or gold.cluster != str(line.image_id):
            of = "has no annotation" if gold is None else f"is about image {line.image_id}, its annotation is not"
            raise DataError(f"{place}: question {line.question_id} {of}; {annotations} must be of the same split")
        items.append((place, dataclasses.replace(gold, question=line.question)))
    found = unique_items(items)
    if len(found) < len(golds):
        raise DataError(
            f"{questions} has {len(found)} questions and {annotations} {len(golds)}; give files of one split"
        )
    return record(str(questions), read_json(questions), _Header).data_subtype, found


def read_answers(path: Path) -> dict[str, str]:
    """A submission, `[{question_id, answer}]`, or the answers of LLaVA's scripts: id -> answer."""
    return texts_by_id(path)


OFFICIAL_2021 = Variant(
    "official-2021",
    "GT-Vision-Lab/VQA, vqaEval.py since a013f00: unanimous golds are compared as they stand.",
    by_votes(official_2021),
    by_types,
)
OFFICIAL_2016 = Variant(
    "official-2016",
    "The same file before: of the golds only the punctuation is normalised, and only where they differ.",
    by_votes(official_2016),
    by_types,
)
EVALAI = Variant(
    "evalai",
    "facebookresearch/mmf, EvalAIAnswerProcessor: both sides always normalised, commas deleted first.",
    by_votes(evalai),
    by_types,
)
VLMEVALKIT = Variant(
    "vlmevalkit",
    "open-compass/VLMEvalKit, vqa_eval.py: both sides always normalised; a full stop after a digit stays.",
    by_votes(vlmevalkit),
    by_types,
)
VLMEVALKIT_2024 = Variant(
    "vlmevalkit-2024",
    "The same while smp/misc.py had the official file's look-behind: the full stop after a digit goes.",
    by_votes(vlmevalkit_2024),
    by_types,
)

METRIC = Metric(
    name="vqa",
    summary="VQA accuracy: agreement with ten annotators, each left out in turn.",
    variants=(
        OFFICIAL_2021,
        OFFICIAL_2016,
        EVALAI,
        Variant(
            "lmms-eval",
            "lmms-eval, tasks/vqav2 since pull request 794, and open_flamingo: both sides always normalised.",
            by_votes(lmms_eval),
            by_types,
        ),
        Variant(
            "lmms-eval-2024",
            "The same before pull request 760: predictions by EvalAI's steps, and again by the official ones.",
            by_votes(lmms_eval_2024),
            by_types,
        ),
        VLMEVALKIT,
        VLMEVALKIT_2024,
    ),
    files="the official annotations file, and a submission [{question_id, answer}] or LLaVA's answers file",
    gold=read_annotations,
    predictions=read_answers,
)
