"""VQA accuracy of few-shot answers: what a model writes is cut before it begins the next question.

    "red, Question: what is ..." ── cut at Question|Answer|Short ── cut at the first ", " ──▶ "red" ── VQA accuracy

OpenFlamingo's evaluation (mlfoundations/open_flamingo, eval/vqa_metric.py) gives models demonstrations that end in an
answer, so that they go on with a question of their own. The words are cut wherever they stand, in the middle of a word
too ("Shorts" leaves nothing).

Accuracy is `vqa.lmms-eval`: that file normalises answer and golds always, where the official program compares golds
that all agree as they stand, and leaves out with an annotator all whose records equal his. The benchmark `few-shot-vqa`
scores by the same rule; its own stop texts have cut the answers already.

OK-VQA's stemming of answers (NLTK's tagger and WordNet) is not done.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from mminstruct.evaluation.item import Item
from mminstruct.evaluation.parsing.vqa_votes import marks_of
from mminstruct.evaluation.scorers.metric import JudgeAll, Metric, Variant, Verdict, each, mean_with_kinds
from mminstruct.evaluation.scorers.vqa import lmms_eval, read_annotations, read_answers


def first_answer(text: str) -> str:
    """The text before "Question", "Answer" or "Short", and before the first comma that a blank follows."""
    return re.split("Question|Answer|Short", text, maxsplit=1)[0].split(", ")[0]


def first_answer_with_commas(text: str) -> str:
    """The text before "Question" or "Answer"."""
    return re.split("Question|Answer", text, maxsplit=1)[0]


def judge(cut: Callable[[str], str]) -> JudgeAll:
    """`judge_all` of VQA accuracy after a cut."""

    def one(text: str, item: Item) -> Verdict:
        answer = cut(text)
        return Verdict(lmms_eval(answer, item.answers, marks_of(item)), answer=answer)

    return each(one)


METRIC = Metric(
    name="few-shot-vqa",
    summary="VQA accuracy of an answer that a model goes on from with a question of its own.",
    variants=(
        Variant(
            "open-flamingo",
            'mlfoundations/open_flamingo, eval: cut at "Question", "Answer", "Short" and at the first comma.',
            judge(first_answer),
            mean_with_kinds,
        ),
        Variant(
            "open-flamingo-1",
            'The same, vqa_metric.py of its first version (00dc792): cut at "Question" and "Answer" only.',
            judge(first_answer_with_commas),
            mean_with_kinds,
        ),
    ),
    files="VQA's official annotations file, and [{question_id, answer}] with the texts as generated",
    gold=read_annotations,
    predictions=read_answers,
)
