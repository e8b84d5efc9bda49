"""DocVQA (Mathew et al., WACV 2021, arXiv 2007.00398): questions about pages of scanned documents, by ANLS.

    val_v1.0_withQT.json {"data": [{questionId, question, image: "documents/xnbl0037_1.png", answers, ...}]}
        ─▶ 5,349 validation questions; figures by question type where the file has them

Answers of the test split are with the server of the Robust Reading Competition only, so published numbers of "test" are
not comparable with those of this split. LLaVA-1.5 published none; LLaVA-1.6 and later ones are by lmms-eval.
"""

from __future__ import annotations

from collections.abc import Iterator

from mminstruct.eval.vqa import AFTER_IMAGE, SHORT_ANSWER
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol
from mminstruct.evaluation.scorers.anls import read_questions
from mminstruct.evaluation.table_images import FileOrTable, with_images


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

    class Options(FileOrTable):
        """As `FileOrTable`."""

    options: FileOrTable

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or an image is missing or not as described."""

        # Files name the images by the folder in which they were first published, or by nothing but their name.
        def names(item: Item) -> Iterator[str]:
            yield from (item.cluster, item.cluster.rpartition("/")[2])

        yield from with_images(self.options, self.data, read_questions, names)


BENCHMARK = Docvqa

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
