"""OCR-VQA (Mishra et al., ICDAR 2019): questions on author, title, year, edition and genre of book covers.

    dataset.json {id: {questions, answers, imageURL, split: 3, ...}}, images/{id}.jpg ─▶ the test questions, split 3

The official script fetches the covers one by one and names each after its book, with the ending of its address; where
people kept them all as .jpg that is found too. Covers that the shop no longer has must be taken out of dataset.json:
a question that cannot be shown is an error and not a question less.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from mminstruct.config import Config
from mminstruct.eval.vqa import AFTER_IMAGE, LLAVA_TOKENS, SHORT_ANSWER
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol
from mminstruct.evaluation.local_files import TABLE, Pictures, found
from mminstruct.evaluation.scorers.ocrvqa import read_questions
from mminstruct.evaluation.table_images import with_images_within


class OcrVqa(Benchmark):
    name = "ocr-vqa"
    summary = "OCR-VQA: questions about book covers."
    primary_scorer = "ocrvqa.vlmevalkit"
    further_scorers = ("ocrvqa.strict", "exact-match")
    protocols = (
        Protocol(
            name="vlmevalkit",
            source="VLMEvalKit, dataset/image_vqa.py, ImageVQADataset; length as LLaVA's loader has it",
            max_new_tokens=LLAVA_TOKENS,
            prompt=AFTER_IMAGE + SHORT_ANSWER,
        ),
    )
    licence = "for research only; the covers belong to their publishers"
    data = (
        "OCR-VQA of ocr-vqa.github.io: questions=dataset.json and images=images/, as loadDataset.py fetches them; "
        "or VLMEvalKit's questions=OCRVQA_TEST.tsv"
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
            names = dict.fromkeys((*map(str, item.images), f"{item.cluster}.jpg"))
            yield dataclasses.replace(item, images=(pictures.named(*names),))


BENCHMARK = OcrVqa

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
