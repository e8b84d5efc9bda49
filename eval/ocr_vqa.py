"""OCR-VQA (Mishra et al., ICDAR 2019): questions on author, title, year, edition and genre of book covers.

    dataset.json {id: {questions, answers, imageURL, split: 3, ...}}, images/{id}.jpg ─▶ the test questions, split 3

The official script fetches the covers one by one and names each after its book, with the ending of its address; where
people kept them all as .jpg that is found too. Covers that the shop no longer has must be taken out of dataset.json:
a question that cannot be shown is an error and not a question less.
"""

from __future__ import annotations

from collections.abc import Iterator

from mminstruct.eval.vqa import AFTER_IMAGE, LLAVA_TOKENS, SHORT_ANSWER
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol
from mminstruct.evaluation.scorers.ocrvqa import read_questions
from mminstruct.evaluation.table_images import FileOrTable, with_images


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

    class Options(FileOrTable):
        """As `FileOrTable`."""

    options: FileOrTable

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or an image is missing or not as described."""
        yield from with_images(
            self.options, self.data, read_questions, lambda item: [*map(str, item.images), f"{item.cluster}.jpg"]
        )


BENCHMARK = OcrVqa

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
