"""VizWiz-VQA: agreement with ten annotators on blind people's questions, and how well unanswerable ones are told.

    [{image, answers: [{answer, answer_confidence} x 10], answer_type, answerable}]  gold: val.json, test.json
    [{image, answer}], or with "answerable": 0.9, or with that alone                 a submission

- `official`: VizWiz API, vqaEval.py by Qing Li. The prediction is normalised by the VQA steps and *the golds are not*:
  a gold "Black." or "the dog" can never be met. Annotators are left out by their place. Its table of contractions has
  typographic apostrophes, so "dont" becomes "don’t", which is no gold "don't".
- `evalai`: lmms-eval's tasks/vizwiz_vqa/utils.py: both sides by EvalAI's steps. LLaVA too sends predictions through
  these steps before submission, so its file scores the same by `official`.
- `vlmevalkit`, `vlmevalkit-2024`: as of VQA (`vqa.py`); both sides normalised.
- `open-flamingo`: open_flamingo's eval/vqa_metric.py on these files, which have no `answer_id`: whoever gave the same
  answer with the same confidence goes with the annotator who is left out, so agreement is lost.

Where the submission says how answerable a question is, the figures `average_precision` and `f1_score` of the official
`evaluate_unanswerability` are given: of 1 - answerable, F1 at more than 0.5. The variant `unanswerability` has the
former as its score. The official script also prints caption metrics; they are the metrics of captions here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from mminstruct.errors import DataError
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_list, record, records, unique, unique_items
from mminstruct.evaluation.parsing import vqa_normalise
from mminstruct.evaluation.parsing.vqa_votes import Vote, facts_of, leave_one_out
from mminstruct.evaluation.scorers.metric import (
    Figures,
    Metric,
    Predictions,
    Variant,
    Verdict,
    all_predicted,
    by_answers,
)
from mminstruct.evaluation.scorers.vqa import VLMEVALKIT, VLMEVALKIT_2024, by_types, by_votes, evalai, lmms_eval

_ANSWERABLE = "\n answerable"  # what ends the key under which `predictions` gives a submission's answerability


def official(prediction: str, golds: Sequence[str]) -> float:
    """VizWiz's official accuracy; see the module's text."""
    return leave_one_out(vqa_normalise.vizwiz(prediction), golds)


def average_precision(positive: Sequence[bool], scores: Sequence[float]) -> float | None:
    """Area under precision against recall, by steps: the sum over thresholds of (recall gained) * precision.

    Equal scores are one threshold. None where there is no positive. As scikit-learn's `average_precision_score`.
    """
    total = sum(positive)
    if not total:
        return None
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    area, hits, gained = 0.0, 0, 0
    for rank, place in enumerate(order, start=1):
        hits += positive[place]
        gained += positive[place]
        if rank == len(order) or scores[order[rank]] != scores[place]:
            area += gained / total * (hits / rank)
            gained = 0
    return area


def f1(positive: Sequence[bool], found: Sequence[bool]) -> float | None:
    """2 * hits / (positives + found); None where there is neither."""
    hits = sum(a and b for a, b in zip(positive, found, strict=True))
    return 2 * hits / (sum(positive) + sum(found)) if any(positive) or any(found) else None


class _Facts(Official):
    marks: tuple[str, ...] = ()
    answerable: int | None = None
    predicted_answerable: float | None = None


def _unanswerability(items: Sequence[Item]) -> Figures:
    positive, scores = [], []
    for item in items:
        facts = record(f"the facts of {item.id!r}", dict(item.facts), _Facts)
        if facts.answerable is not None and facts.predicted_answerable is not None:
            positive.append(facts.answerable == 0)
            scores.append(1.0 - facts.predicted_answerable)
    if not scores:
        return {}
    return {
        "average_precision": average_precision(positive, scores),
        "f1_score": f1(positive, [score > 0.5 for score in scores]),
    }


def _total(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    return by_types(items, verdicts) | _unanswerability(items)


def _total_unanswerability(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    found = _unanswerability(items)
    return {"score": found.get("average_precision")} | found


def _judge_unanswerability(items: Sequence[Item], texts: Predictions) -> list[Verdict]:
    """Whether each was told rightly at 0.5; the score of all is the average precision."""
    facts = [record(f"the facts of {item.id!r}", dict(item.facts), _Facts) for item in items]
    return [
        Verdict(0.0, parsed=False)
        if fact.predicted_answerable is None
        else Verdict(
            float((1.0 - fact.predicted_answerable > 0.5) == (fact.answerable == 0)),
            answer=f"{fact.predicted_answerable:g}",
        )
        for fact in facts
    ]


class _Question(Official):
    image: str
    question: str = ""
    answers: tuple[Vote, ...]
    answer_type: str = ""
    answerable: int | None = None


def read_questions(path: Path) -> list[Item]:
    """`val.json` and its like: the items, by the name of their image."""
    return unique_items(
        (
            place,
            Item(
                id=line.image,
                question=line.question,
                answers=tuple(vote.answer for vote in line.answers),
                kind=line.answer_type,
                facts=facts_of(line.answers) | ({} if line.answerable is None else {"answerable": line.answerable}),
            ),
        )
        for place, line in records(json_list(path), _Question)
    )


class _Submitted(Official):
    image: str
    answer: str | None = None
    answerable: float | None = None


def read_submission(path: Path) -> dict[str, str]:
    """image -> answer, and image with a mark -> how answerable, for `pairing`."""
    found = []
    for place, line in records(json_list(path), _Submitted):
        if line.answer is None and line.answerable is None:
            raise DataError(f"{place} has neither 'answer' nor 'answerable'; give one of them or both")
        if line.answer is not None:
            found.append((place, line.image, line.answer))
        if line.answerable is not None:
            found.append((place, line.image + _ANSWERABLE, repr(line.answerable)))
    if not found:
        raise DataError(f"{path} holds no answers; give a submission of VizWiz-VQA")
    return unique(found)


def pairing(items: Sequence[Item], found: Mapping[str, str], path: Path) -> tuple[list[Item], list[str | None]]:
    """As `all_predicted`, with the submission's answerability put among the facts."""
    shares = {name.removesuffix(_ANSWERABLE): text for name, text in found.items() if name.endswith(_ANSWERABLE)}
    texts = {name: text for name, text in found.items() if not name.endswith(_ANSWERABLE)}
    kept, paired = all_predicted(items, texts or dict.fromkeys(shares, ""), path)
    if shares:
        all_predicted(items, shares, path)
        kept = [
            dataclasses.replace(item, facts={**item.facts, "predicted_answerable": float(shares[item.id])})
            for item in kept
        ]
    return kept, paired if texts else [None] * len(kept)


METRIC = Metric(
    name="vizwiz",
    summary="VizWiz-VQA: agreement with ten annotators, and average precision of telling what cannot be answered.",
    variants=(
        Variant(
            "official",
            "VizWiz API, vqaEval.py: the prediction is normalised, the golds stand as they are.",
            by_answers(official),
            _total,
        ),
        Variant(
            "evalai",
            "lmms-eval, tasks/vizwiz_vqa: both sides by the steps of mmf's EvalAIAnswerProcessor.",
            by_votes(evalai),
            _total,
        ),
        dataclasses.replace(VLMEVALKIT, total=_total),
        dataclasses.replace(VLMEVALKIT_2024, total=_total),
        Variant(
            "open-flamingo",
            "open_flamingo, eval/vqa_metric.py: both sides normalised; annotators of equal records go together.",
            by_votes(lmms_eval),
            _total,
        ),
        Variant(
            "unanswerability",
            "VizWiz API, evaluate_unanswerability: average precision of 1 - answerable.",
            _judge_unanswerability,
            _total_unanswerability,
        ),
    ),
    files="val.json of VizWiz-VQA, and a submission [{image, answer}], [{image, answerable}] or with both",
    gold=read_questions,
    predictions=read_submission,
    pairing=pairing,
)
