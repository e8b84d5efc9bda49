"""easy-VQA (Victor Zhou, 2019): all 9,673 test questions about 1,000 pictures of one coloured shape.

    the package easy-vqa: data/test/{images/N.png, questions.json} ─▶ Item(easy-vqa/test/N/qI, kind shape|color|yes-no)

Each question is asked on its own, in one turn, with the prompt that the builder `data_builders/easy_vqa.py` gives to
the first turn of a conversation, so training and evaluation ask alike. Answers are one word out of thirteen; the score
is exact match. Of the 7,136 yes-no questions 5,201 name a color and 1,935 a shape; they are told apart as details.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from mminstruct.conversation import Conversation
from mminstruct.data_builders.easy_vqa import COLORS, Question, data_folder, prompt, questions
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol, one_question

SPLIT: Literal["test"] = "test"


class EasyVqa(Benchmark):
    name = "easy-vqa"
    summary = "One shape on 64 x 64 pixels: 9,673 questions on shape, color and yes-no (pip install easy-vqa)."
    primary_scorer = "exact-match"
    further_scorers = ("exact-match.strict",)
    protocols = (
        Protocol(
            name="builder",
            source="the prompt of the first turn that the builder easy-vqa makes (data_builders/easy_vqa.py)",
            max_new_tokens=16,
        ),
    )
    licence = "MIT (the package's own statement)"
    data = "pip install easy-vqa"

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where the package easy-vqa is missing or its data are not as expected."""
        pictures = data_folder() / SPLIT / "images"
        for question in questions(SPLIT):
            yield Item(
                id=f"{self.name}/{SPLIT}/{question.image}/q{question.index}",
                images=(pictures / f"{question.image}.png",),
                question=question.text,
                answers=(question.answer,),
                kind=question.task.partition("+")[2],
                detail=_detail(question),
                cluster=str(question.image),
            )

    def conversation(self, item: Item) -> Conversation:
        return one_question(item, prompt(item.question))


def _detail(question: Question) -> str:
    """What a yes-no question asks about: each names either one color or one shape."""
    if question.task != "easy-vqa+yes-no":
        return ""
    words = question.text.rstrip("?").split()
    return "color" if COLORS.intersection(words) else "shape"


BENCHMARK = EasyVqa

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
