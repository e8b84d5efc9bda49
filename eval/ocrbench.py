"""OCRBench (Liu et al., arXiv 2305.07895): 1,000 questions on reading text, of ten kinds from 29 data sets.

    OCRBench.json [{dataset_name, type, question, image_path, answers}], OCRBench_Images/{image_path}

The question is the whole prompt. The score counts right answers and is of 1,000: on fewer questions (`--limit`) read
the figure `accuracy`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from mminstruct.config import Config
from mminstruct.eval.vqa import AFTER_IMAGE
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol
from mminstruct.evaluation.local_files import TABLE, Pictures, found
from mminstruct.evaluation.scorers.ocrbench import read_questions
from mminstruct.evaluation.table_images import with_images_within


class Ocrbench(Benchmark):
    name = "ocrbench"
    summary = "OCRBench: 1,000 questions on reading text; right is an answer that holds the gold text."
    primary_scorer = "ocrbench.official"
    further_scorers = ("ocrbench.lmms-eval", "ocrbench.vlmevalkit")
    protocols = (
        Protocol(
            name="official",
            source="MultimodalOCR, OCRBench/example.py: the bare question; length as lmms-eval, tasks/ocrbench, has it",
            max_new_tokens=128,
            prompt=AFTER_IMAGE + "{question}",
        ),
    )
    licence = "for research only; the images are of 29 public sets, each under its own terms"
    data = (
        "OCRBench of Yuliang-Liu/MultimodalOCR: questions=OCRBench/OCRBench.json and images=OCRBench_Images/; "
        "or VLMEvalKit's questions=OCRBench.tsv"
    )

    class Options(Config):
        """The official file and the folder of images.

        A table has its images within and needs no folder: they are written into `cache`, default `FILE.tsv.images`.
        """

        questions: Path
        images: Path | None = None
        cache: Path | None = None

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or an image is missing or not as described."""
        questions = found(self.options.questions, self.data, tables=True)
        if questions.suffix == TABLE:
            yield from with_images_within(read_questions(questions), questions, self.options.cache)
            return
        pictures = Pictures(self.options.images, self.data)
        for item in read_questions(questions):
            question = item.question.strip()
            yield dataclasses.replace(item, images=(pictures.named(item.cluster),), question=question)


BENCHMARK = Ocrbench

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
