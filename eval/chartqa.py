"""ChartQA (Masry et al., ACL Findings 2022, arXiv 2203.10244): questions about charts, by relaxed accuracy.

    test/{test_human.json, test_augmented.json} [{imgname, query, label}], test/png/{imgname}
        ─▶ 1,250 questions that people wrote and 1,250 that were generated from captions; kind: human, augmented

The two halves are far apart in difficulty: the figures have both, and their mean. LLaVA-1.5 published no number.

Protocols: `lmms-eval` asks for a word and is read by pix2struct's rule; `mistral` lets the model reason, and what it
calls its final answer is read by `chartqa.mistral`. The headline scorer follows the protocol in use only if it is the
former: with protocol=mistral read the figure of `chartqa.mistral`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from mminstruct.config import Config
from mminstruct.eval.vqa import AFTER_IMAGE, SHORT_ANSWER
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol
from mminstruct.evaluation.local_files import Pictures, found
from mminstruct.evaluation.scorers.chartqa import read_questions


class Chartqa(Benchmark):
    name = "chartqa"
    summary = "ChartQA: questions about charts; numbers may be off by five per cent."
    primary_scorer = "chartqa.pix2struct"
    further_scorers = ("chartqa.vlmevalkit", "chartqa.mistral-relaxed")
    protocols = (
        Protocol(
            name="lmms-eval",
            source="lmms-eval, tasks/chartqa/chartqa.yaml",
            max_new_tokens=16,
            prompt=AFTER_IMAGE + SHORT_ANSWER,
        ),
    )
    licence = "GPL-3.0 (vis-nlp/ChartQA); the charts are of Statista, Pew Research, Our World in Data and the OECD"
    data = "ChartQA of vis-nlp/ChartQA: questions=ChartQA Dataset/test/ (or one of its files), images=test/png/"

    class Options(Config):
        """The folder of the split or one of its two files; images: default `png` in the folder."""

        questions: Path
        images: Path | None = None

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or an image is missing or not as described."""
        questions = found(self.options.questions, self.data)
        folder = questions if questions.is_dir() else questions.parent
        pictures = Pictures(self.options.images or folder / "png", self.data)
        for item in read_questions(questions):
            yield dataclasses.replace(item, images=(pictures.named(item.cluster),))


BENCHMARK = Chartqa

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
