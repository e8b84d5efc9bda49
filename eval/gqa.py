"""GQA (Hudson and Manning, CVPR 2019, arXiv 1902.09506): questions made from scene graphs, one word to answer.

    testdev_balanced_questions.json {id: {question, answer, imageId, types, ...}}, images/{imageId}.jpg
        ─▶ 12,578 questions on 398 images; kind: structural type, detail: semantic type

A folder with the questions and `*_choices.json` gives validity and plausibility besides. Consistency needs all
questions (`testdev_all_questions.json`): those that are not balanced are then asked too and do not count.
"""

from __future__ import annotations

from collections.abc import Iterator

from mminstruct.eval.vqa import AFTER_IMAGE, LLAVA_TOKENS, SHORT_ANSWER
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol
from mminstruct.evaluation.scorers.gqa import read_questions
from mminstruct.evaluation.table_images import FileOrTable, with_images


class Gqa(Benchmark):
    name = "gqa"
    summary = "GQA: questions made from scene graphs, on objects, attributes and relations."
    primary_scorer = "gqa.llava"
    further_scorers = ("gqa.official", "gqa.lmms-eval", "gqa.vlmevalkit")
    protocols = (
        Protocol(
            name="llava-1.5",
            source="LLaVA-1.5 (arXiv 2310.03744), scripts/v1_5/eval/gqa.sh, llava/eval/model_vqa_loader.py",
            max_new_tokens=LLAVA_TOKENS,
            prompt=AFTER_IMAGE + SHORT_ANSWER,
        ),
        Protocol(
            name="lmms-eval",
            source="lmms-eval, tasks/gqa/gqa.yaml",
            max_new_tokens=16,
            prompt=AFTER_IMAGE + SHORT_ANSWER,
        ),
    )
    licence = "CC BY 4.0 (so says its copy Graphcore/gqa); the images are Visual Genome's"
    data = (
        "GQA of cs.stanford.edu: questions=testdev_balanced_questions.json (or its folder) and images=images/; "
        "or VLMEvalKit's questions=GQA_TestDev_Balanced.tsv"
    )

    class Options(FileOrTable):
        """As `FileOrTable`."""

    options: FileOrTable

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or an image is missing or not as described."""
        yield from with_images(self.options, self.data, read_questions, lambda item: [f"{item.cluster}.jpg"])


BENCHMARK = Gqa

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
