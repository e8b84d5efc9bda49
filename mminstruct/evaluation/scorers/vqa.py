"""VQA accuracy: how far a prediction agrees with the answers that people gave, in its three published variants.

    golds [10 strings] ─ normalise? ─▶ for each annotator left out: min(1, matches among the others / 3) ─ mean ─▶ score

With ten golds of which m equal the prediction the score is 0, .3, .6, .9, 1 for m = 0, 1, 2, 3, >= 4 (and not m / 3).
The variants differ in what is normalised before the comparison:

- `official-2021`: GT-Vision-Lab/VQA, PythonEvaluationTools/vqaEvaluation/vqaEval.py since its commit a013f00 (March
  2021). Prediction and golds are normalised where the golds differ from each other; unanimous golds are compared as
  they stand, so "Black." is wrong for ten times "black".
- `official-2016`: the same file before (e.g. commit c4e6a0e). The prediction is always normalised in full; of the golds
  only the punctuation is, and only where they differ from each other.
- `evalai`: facebookresearch/mmf, `EvalAIAnswerProcessor` and `TextVQAAccuracyEvaluator`. Both sides are always
  normalised, after a first step that deletes commas and question marks. LLaVA's scripts use it for TextVQA, VQAv2 and
  VizWiz.

The official files are made for ten golds. Of n golds, a match with min(3, n - 1) others is full credit here: with four
and more this is the official formula; with two or three it lets an answer that everybody gave score 1; one gold is a
plain match.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_list, records, unique, unique_items
from mminstruct.evaluation.parsing.vqa_normalise import digits_articles_contractions, one_line, punctuation, tokenise
from mminstruct.evaluation.scorers.metric import Metric, Variant, by_answers, mean_with_kinds


def official_2021(prediction: str, answers: Sequence[str]) -> float:
    """The official VQA accuracy since March 2021; see the module's text."""
    prediction, golds = one_line(prediction), [one_line(answer) for answer in answers]
    if len(set(golds)) > 1:
        prediction, golds = _official(prediction), [_official(gold) for gold in golds]
    return leave_one_out(prediction, golds)


def official_2016(prediction: str, answers: Sequence[str]) -> float:
    """The official VQA accuracy before March 2021; see the module's text."""
    golds = list(answers)
    if len(set(golds)) > 1:
        golds = [punctuation(gold) for gold in golds]
    return leave_one_out(_official(one_line(prediction)), golds)


def evalai(prediction: str, answers: Sequence[str]) -> float:
    """VQA accuracy as the EvalAI server and mmf compute it; see the module's text."""
    return leave_one_out(evalai_answer(prediction), [evalai_answer(answer) for answer in answers])


def evalai_answer(text: str) -> str:
    """A prediction as LLaVA's scripts send it to the EvalAI server, and as `evalai` compares it."""
    return _official(one_line(tokenise(text)))


def leave_one_out(prediction: str, golds: Sequence[str]) -> float:
    """Mean over the annotators of min(1, matches among the *other* annotators / min(3, number of others)).

    Annotators are told apart by their place in `golds`, so two who gave the same answer are two.

    Raises:
        ValueError: `golds` is empty.
    """
    if not golds:
        raise ValueError("VQA accuracy needs at least one gold answer")
    matches, others = sum(gold == prediction for gold in golds), len(golds) - 1
    if others == 0:
        return float(matches)
    enough = min(3, others)
    # Leaving out one of the `matches` annotators who agree leaves matches - 1; leaving out another leaves them all.
    agreeing = matches * min(1.0, (matches - 1) / enough)
    differing = (len(golds) - matches) * min(1.0, matches / enough)
    return (agreeing + differing) / len(golds)


def _official(text: str) -> str:
    return digits_articles_contractions(punctuation(text))


class _Vote(Official):
    answer: str


class _Annotation(Official):
    question_id: int | str
    image_id: int | str
    answers: tuple[_Vote, ...]
    question_type: str = ""
    answer_type: str = ""


class _Answer(Official):
    question_id: int | str
    answer: str


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
            ),
        )
        for place, line in records(json_list(path, "annotations"), _Annotation)
    )


def read_answers(path: Path) -> dict[str, str]:
    """A submission, `[{question_id, answer}]`: id -> answer."""
    return unique((place, str(line.question_id), line.answer) for place, line in records(json_list(path), _Answer))


METRIC = Metric(
    name="vqa",
    summary="VQA accuracy: agreement with ten annotators, each left out in turn.",
    variants=(
        Variant(
            "official-2021",
            "GT-Vision-Lab/VQA, vqaEval.py since a013f00: unanimous golds are compared as they stand.",
            by_answers(official_2021),
            mean_with_kinds,
        ),
        Variant(
            "official-2016",
            "The same file before: of the golds only the punctuation is normalised, and only where they differ.",
            by_answers(official_2016),
            mean_with_kinds,
        ),
        Variant(
            "evalai",
            "facebookresearch/mmf, EvalAIAnswerProcessor: both sides always normalised, commas deleted first.",
            by_answers(evalai),
            mean_with_kinds,
        ),
    ),
    files="the official annotations file, and a submission [{question_id, answer}]",
    gold=read_annotations,
    predictions=read_answers,
)
