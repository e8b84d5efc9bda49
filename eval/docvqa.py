"""DocVQA (Mathew et al., WACV 2021, arXiv 2007.00398): questions about pages of scanned documents, by ANLS.

    val_v1.0_withQT.json {"data": [{questionId, question, image: "documents/xnbl0037_1.png", answers, ...}]}
        ─▶ 5,349 validation questions; figures by question type where the file has them

Answers of the test split are with the server of the Robust Reading Competition only, so published numbers of "test" are
not comparable with those of this split. LLaVA-1.5 published none; LLaVA-1.6 and later ones are by lmms-eval.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from mminstruct.config import Config
from mminstruct.eval.vqa import AFTER_IMAGE, SHORT_ANSWER
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol
from mminstruct.evaluation.local_files import TABLE, Pictures, found
from mminstruct.evaluation.scorers.anls import read_questions
from mminstruct.evaluation.table_images import with_images_within


class Docvqa(Benchmark):
    name = "docvqa"
    summary = "DocVQA: questions about scanned pages, judged by edit distance."
    primary_scorer = "anls.rrc"
    further_scorers = ("anls.vlmevalkit", "anls.mmf", "exact-match")
    protocols = (
        Protocol(
            name="lmms-eval",
            source="lmms-eval, tasks/docvqa/_default_template_docvqa_yaml",
            max_new_tokens=128,
            prompt=AFTER_IMAGE + SHORT_ANSWER,
        ),
    )
    licence = "MIT (so says the list of the MMFM challenge); the pages are of the UCSF Industry Documents Library"
    data = (
        "DocVQA of the Robust Reading Competition (docvqa.org): questions=val_v1.0_withQT.json and "
        "images=spdocvqa_images/ (or the folder that holds documents/); or VLMEvalKit's questions=DocVQA_VAL.tsv"
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
            # Files name the images by the folder in which they were first published, or by nothing but their name.
            bare = item.cluster.rpartition("/")[2]
            yield dataclasses.replace(item, images=(pictures.named(*dict.fromkeys((item.cluster, bare))),))


BENCHMARK = Docvqa

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
