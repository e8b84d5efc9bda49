"""MME (Fu et al., arXiv 2306.13394): yes-no questions in 14 tasks, two on each image, one right with yes.

    MME_Benchmark_release_version/TASK/{IMAGE.txt, IMAGE.jpg}, or TASK/{questions_answers_YN/, images/}
        ─▶ 2,374 questions on 1,187 images; kind: the task

The files' questions end with "Please answer yes or no."; LLaVA takes that off and asks for a word or phrase. Its
1,510.7 is perception alone, of 2,000: read the figure `perception`; the score here has cognition's 800 in it too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from mminstruct.config import Config
from mminstruct.conversation import Conversation
from mminstruct.eval.vqa import AFTER_IMAGE, LLAVA_TOKENS, SHORT_ANSWER
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol, one_question
from mminstruct.evaluation.local_files import Pictures, found
from mminstruct.evaluation.scorers.mme import read_questions

YES_OR_NO = "Please answer yes or no."
ENDINGS = ("jpg", "png", "jpeg")


class Mme(Benchmark):
    name = "mme"
    summary = "MME: yes-no questions on perception and cognition in 14 tasks, two on each image."
    primary_scorer = "mme.official"
    further_scorers = ("mme.lmms-eval", "mme.vlmevalkit")
    protocols = (
        Protocol(
            name="llava-1.5",
            source="LLaVA-1.5 (arXiv 2310.03744), scripts/v1_5/eval/mme.sh, llava_mme.jsonl: the ending is replaced",
            max_new_tokens=LLAVA_TOKENS,
            prompt=AFTER_IMAGE + SHORT_ANSWER,
        ),
        Protocol(
            name="official",
            source="MME (arXiv 2306.13394, instruction design): the question with its own ending",
            max_new_tokens=LLAVA_TOKENS,
            prompt=AFTER_IMAGE + "{question}",
        ),
        Protocol(
            name="lmms-eval",
            source="lmms-eval, tasks/mme/utils.py: the ending is replaced, of two blanks before it one stays",
            max_new_tokens=16,
            prompt=AFTER_IMAGE + SHORT_ANSWER,
        ),
    )
    licence = "for research only, and handed out on request (BradyFU/Awesome-Multimodal-Large-Language-Models)"
    data = (
        "MME of BradyFU/Awesome-Multimodal-Large-Language-Models: questions=MME_Benchmark_release_version/, with the "
        "images of each task beside its questions"
    )

    class Options(Config):
        """The benchmark's folder; `images`: where the tasks' folders with the images are, if not there."""

        questions: Path
        images: Path | None = None

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or an image is missing or not as described."""
        questions = found(self.options.questions, self.data)
        pictures = Pictures(self.options.images or questions, self.data)
        for item in read_questions(questions):
            image = item.cluster.rpartition("/")[2].rpartition(".")[0]
            places = [
                f"{folder}/{image}.{ending}" for folder in (item.kind, f"{item.kind}/images") for ending in ENDINGS
            ]
            yield dataclasses.replace(item, images=(pictures.named(*places),))

    def conversation(self, item: Item) -> Conversation:
        question = item.question.strip()
        if self.protocol.name == "llava-1.5":
            question = question.replace(YES_OR_NO, "").rstrip()
        if self.protocol.name == "lmms-eval":
            question = question.replace(f" {YES_OR_NO}", "")
        return one_question(item, self.protocol.text(dataclasses.replace(item, question=question)))


BENCHMARK = Mme

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
