"""OCRBench (Liu et al., arXiv 2305.07895): 1,000 questions on reading text, of ten kinds from 29 data sets.

    OCRBench.json [{dataset_name, type, question, image_path, answers}], OCRBench_Images/{image_path}

The question is the whole prompt. The score counts right answers and is of 1,000: on fewer questions (`--limit`) read
the figure `accuracy`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from mminstruct.eval.vqa import AFTER_IMAGE
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol
from mminstruct.evaluation.scorers.ocrbench import read_questions
from mminstruct.evaluation.table_images import FileOrTable, with_images


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

    class Options(FileOrTable):
        """As `FileOrTable`."""

    options: FileOrTable

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or an image is missing or not as described."""
        for item in with_images(self.options, self.data, read_questions, lambda item: [item.cluster]):
            yield dataclasses.replace(item, question=item.question.strip())


BENCHMARK = Ocrbench

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
