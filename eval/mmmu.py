"""MMMU (Yue et al., CVPR 2024, arXiv 2311.16502): college questions of 30 subjects, up to seven images each.

    DIR/Accounting/validation-00000-of-00001.parquet ... {id, question, options, answer, question_type, image_1 ... 7}
        ─▶ 900 questions (847 with options, 53 open), images in DIR.images/ (option `cache`)
    the same rows as JSON or JSON lines, `image_1` a file's name within `images` or a base64 text

Questions name their images, "<image 1>". The published run of LLaVA-1.5 shows the first image alone, in front, and
leaves the marks in the text; the other protocol puts every image where its mark stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from mminstruct.config import Config
from mminstruct.conversation import Conversation
from mminstruct.errors import DataError
from mminstruct.eval.mmbench import LETTER
from mminstruct.eval.vqa import AFTER_IMAGE
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol, lettered, one_question
from mminstruct.evaluation.embedded_images import Embedded
from mminstruct.evaluation.interleaved import interleaved
from mminstruct.evaluation.local_files import Pictures, found
from mminstruct.evaluation.parsing.letters import lettered as by_letter
from mminstruct.evaluation.scorers.mmmu import MULTIPLE_CHOICE, is_choice, read_rows

MOST_IMAGES = 7
SHORT = "Answer the question using a single word or phrase."


class Images:
    """The images of MMMU's rows, `image_1` to `image_7`: within the row, or files of a folder."""

    def __init__(self, embedded: Embedded, pictures: Pictures | None) -> None:
        self._embedded = embedded
        self._pictures = pictures

    def of(self, place: str, row: Mapping[str, Any]) -> tuple[Path, ...]:
        """The images up to the first that is empty. Raises `DataError` where there are none, or one is missing."""
        names = [f"image_{number}" for number in range(1, MOST_IMAGES + 1)]
        cells = [row.get(name) for name in names]
        last = next((number for number, cell in enumerate(cells) if _is_empty(cell)), len(cells))
        if not last:
            raise DataError(f"{place} has no image_1; give the data set, whose rows have their images")
        return tuple(self.one(f"{place}, {name}", cell) for name, cell in zip(names[:last], cells, strict=False))

    def one(self, place: str, cell: Any) -> Path:
        """The file of one image."""
        if self._pictures is not None and isinstance(cell, str):
            return self._pictures.named(cell)
        return self._embedded.keep(cell, place)


def _is_empty(cell: Any) -> bool:
    return not cell or (isinstance(cell, Mapping) and not cell.get("bytes"))


class Mmmu(Benchmark):
    name = "mmmu"
    summary = "MMMU: college questions of 30 subjects, with options or open, on one to seven images."
    primary_scorer = "mmmu.official"
    further_scorers = ("mmmu.no-guess", "mmmu.lmms-eval", "mmmu.vlmevalkit")
    protocols = (
        Protocol(
            name="llava-1.5",
            source="MMMU-Benchmark/MMMU, configs/llava1.5.yaml and run_llava.py: the first image, in front",
            max_new_tokens=1024,
        ),
        Protocol(
            name="lmms-eval",
            source="lmms-eval, tasks/mmmu/utils.py: images at their marks",
            max_new_tokens=16,
        ),
    )
    licence = "Apache-2.0 (MMMU-Benchmark/MMMU); the images have licences of their own"
    data = "MMMU/MMMU: data=DIR with a folder of Parquet files for each subject (Accounting/validation-*.parquet, ...)"

    class Options(Config):
        """The data set's folder or one of its files, the split with answers, and where images are or go."""

        data: Path
        split: Literal["validation", "dev"] = "validation"
        images: Path | None = None
        cache: Path | None = None

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or an image is missing or not as described."""
        pictures = None if self.options.images is None else Pictures(self.options.images, self.data)
        images = Images(Embedded(self.options.data, self.options.cache), pictures)
        for place, item, row in read_rows(found(self.options.data, self.data), self.options.split):
            yield replace(item, images=images.of(place, row))

    def conversation(self, item: Item) -> Conversation:
        if self.protocol.name == "lmms-eval":
            return interleaved(item, _lmms_eval(item))
        return one_question(replace(item, images=item.images[:1]), AFTER_IMAGE + _llava(item))


def _llava(item: Item) -> str:
    if not is_choice(item):
        return f"{item.question}\n\n{SHORT}"
    options = "".join(f"({letter}) {text}\n" for letter, text in by_letter(item.choices).items())
    return f"{item.question}\n\n{options}\n\n{LETTER}"


def _lmms_eval(item: Item) -> str:
    if item.kind != MULTIPLE_CHOICE:
        return f"{item.question}\n\n{SHORT}"
    return f"{item.question}\n{lettered(item.choices)}\n\n{LETTER}"


BENCHMARK = Mmmu

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
