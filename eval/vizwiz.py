"""VizWiz-VQA (Gurari et al., CVPR 2018, arXiv 1802.08218): blind people's own photographs and spoken questions.

    val.json [{image, question, answers: [{answer, answer_confidence} x 10], answer_type, answerable}]
        ─▶ 4,319 questions; kind: answer type

About a third cannot be answered from the picture, and "unanswerable" is then the gold answer; LLaVA's prompt has a line
that says so, which is worth many points. Published numbers (LLaVA-1.5: 50.0) are of the test split, whose answers only
the EvalAI server has.

`vizwiz.evalai` normalises golds as well as predictions, `vizwiz.official` predictions only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from mminstruct.config import Config
from mminstruct.conversation import Conversation
from mminstruct.eval.vqa import AFTER_IMAGE, LLAVA_TOKENS, LMMS_EVAL_TOKENS
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol, one_question
from mminstruct.evaluation.local_files import Pictures, found
from mminstruct.evaluation.scorers.vizwiz import read_questions

MAY_BE_UNANSWERABLE = (
    "{question}\nWhen the provided information is insufficient, respond with 'Unanswerable'.\n"
    "Answer the question using a single word or phrase."
)


class Vizwiz(Benchmark):
    name = "vizwiz"
    summary = "VizWiz-VQA: blind people's questions about their own photographs; a third cannot be answered."
    primary_scorer = "vizwiz.evalai"
    further_scorers = ("vizwiz.official", "vizwiz.vlmevalkit")
    protocols = (
        Protocol(
            name="llava-1.5",
            source="LLaVA-1.5 (arXiv 2310.03744, appendix), scripts/v1_5/eval/vizwiz.sh",
            max_new_tokens=LLAVA_TOKENS,
            prompt=AFTER_IMAGE + MAY_BE_UNANSWERABLE,
        ),
        Protocol(
            name="lmms-eval",
            source="lmms-eval, tasks/vizwiz_vqa: the same with the question's first letter large, the others small",
            max_new_tokens=LMMS_EVAL_TOKENS,
            stop=("ASSISTANT:",),
            prompt=AFTER_IMAGE + MAY_BE_UNANSWERABLE,
        ),
    )
    licence = "CC BY 4.0 (vizwiz.org)"
    data = "VizWiz-VQA of vizwiz.org: questions=Annotations/val.json and images=val/"

    class Options(Config):
        """The official file and the folder of images."""

        questions: Path
        images: Path

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or an image is missing or not as described."""
        pictures = Pictures(self.options.images, self.data)
        for item in read_questions(found(self.options.questions, self.data)):
            yield dataclasses.replace(item, images=(pictures.named(item.id),), cluster=item.id)

    def conversation(self, item: Item) -> Conversation:
        if self.protocol.name == "lmms-eval":
            item = dataclasses.replace(item, question=item.question.capitalize())
        return one_question(item, self.protocol.text(item))


BENCHMARK = Vizwiz

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
