"""AI2D (Kembhavi et al., ECCV 2016, arXiv 1603.07396): four options on diagrams of school books.

    VLMEvalKit's AI2D_TEST.tsv, AI2D_TEST_NO_MASK.tsv, or rows {question, options, answer, image} as Parquet or JSON
        ─▶ 3,088 questions

In the set that is commonly asked ("test") the labels that the options name are masked by letters in the picture; in the
one without masks they are there to be read, and scores are many points higher. Which it is depends on the file alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mminstruct.config import Config
from mminstruct.eval.mmbench import CHOICES, LETTER
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol
from mminstruct.evaluation.embedded_images import Embedded, Shared
from mminstruct.evaluation.local_files import Pictures, found
from mminstruct.evaluation.scorers.ai2d import read_rows


class Ai2d(Benchmark):
    name = "ai2d"
    summary = "AI2D: multiple choice on diagrams, with the labels masked or not, as the file has them."
    primary_scorer = "ai2d.lmms-eval"
    further_scorers = ("ai2d.vlmevalkit", "ai2d.lmms-eval-2024")
    protocols = (
        Protocol(
            name="llava-1.5",
            source="lmms-eval, tasks/ai2d, which puts LLaVA-1.5's line for multiple choice behind the options",
            max_new_tokens=16,
            prompt=CHOICES + LETTER,
        ),
        Protocol(
            name="first-token",
            source="this project: the same prompt, the most probable of the letters; not comparable with it",
            max_new_tokens=1,
            prompt=CHOICES + LETTER,
            first_token=True,
        ),
    )
    licence = "CC BY-SA (allenai.org)"
    data = (
        "AI2D: file=AI2D_TEST.tsv of VLMEvalKit, or the Parquet or JSON lines of lmms-lab/ai2d; for JSON lines whose "
        "`image` is a file's name also images=DIR"
    )

    class Options(Config):
        """The official file, where images within it are written, and the folder of images that it only names."""

        file: Path
        cache: Path | None = None
        images: Path | None = None

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where the file or an image is missing or not as described."""
        embedded = Shared(Embedded(self.options.file, self.options.cache))
        pictures = None if self.options.images is None else Pictures(self.options.images, self.data)
        for place, item, row in read_rows(found(self.options.file, self.data, tables=True)):
            cell = row.get("image", "")
            image = embedded.keep(item.id, cell, place) if pictures is None else pictures.named(str(cell))
            yield replace(item, images=(image,))


BENCHMARK = Ai2d

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
