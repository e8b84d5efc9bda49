"""VLR-Bench (Lim et al., COLING 2025, arXiv 2412.10151): a picture, a question, and five passages, two of which help.

    rows {image, question, passages (or passage1 ... 5), output, keyword1, keyword2, language}, Parquet or JSON
        ─▶ 300 questions each in English, Chinese and Korean

An answer counts where both keywords stand in it. The authors publish no prompt; the passages are given as the builder
vlr-if gives them (data_builders/prompts/vlr_if.yaml), so that training and evaluation ask alike. The second protocol
leaves the passages out: the difference is what a model takes from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from mminstruct.config import Config
from mminstruct.conversation import Conversation
from mminstruct.data_builders.vlr_if import Language, prompt_file
from mminstruct.errors import DataError
from mminstruct.eval.vqa import AFTER_IMAGE
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol, one_question
from mminstruct.evaluation.embedded_images import Embedded
from mminstruct.evaluation.local_files import Pictures, found
from mminstruct.evaluation.scorers.vlr_bench import read_rows

LANGUAGES: dict[str, Language] = {"en": "English", "ko": "Korean", "zh": "Chinese"}
WITH_PASSAGES = "passages"


class VlrBench(Benchmark):
    name = "vlr-bench"
    summary = "VLR-Bench: questions on pictures that passages answer, in English, Chinese and Korean."
    primary_scorer = "vlr-bench.official"
    protocols = (
        Protocol(
            name=WITH_PASSAGES,
            source="this project: as the builder vlr-if asks, its first wording; five passages, as arXiv 2412.10151",
            max_new_tokens=512,
        ),
        Protocol(
            name="no-passages",
            source="arXiv 2412.10151: the question alone, for what the model knows by itself",
            max_new_tokens=512,
            prompt=AFTER_IMAGE + "{question}",
        ),
    )
    licence = "CC BY-NC 4.0 (MLP-Lab/VLR-Bench)"
    data = (
        "MLP-KTLim/VLR-Bench: data=DIR or FILE, the set's Parquet files, or its rows as JSON and images=DIR where "
        "`image` is a file's name"
    )

    class Options(Config):
        """The data set's folder or a file of it, the languages that are asked, and where images are or go."""

        data: Path
        languages: list[Literal["en", "zh", "ko"]] = Field(default=["en", "zh", "ko"], min_length=1)
        images: Path | None = None
        cache: Path | None = None

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or an image is missing or not as described."""
        embedded = Embedded(self.options.data, self.options.cache)
        pictures = None if self.options.images is None else Pictures(self.options.images, self.data)
        for place, item, row in read_rows(found(self.options.data, self.data)):
            if item.kind not in LANGUAGES:
                raise DataError(f"{place}: the language is {item.kind!r} and none of {', '.join(LANGUAGES)}; mend it")
            if item.kind not in self.options.languages:
                continue
            if not item.question or (self.protocol.name == WITH_PASSAGES and not item.facts.get("passages")):
                raise DataError(f"{place} has no question or no passages; give the data set and not a file of results")
            image = (
                embedded.keep(row.get("image"), place) if pictures is None else pictures.named(str(row.get("image")))
            )
            yield replace(item, images=(image,), cluster=str(image))

    def conversation(self, item: Item) -> Conversation:
        if self.protocol.name != WITH_PASSAGES:
            return one_question(item, self.protocol.text(item))
        frame = prompt_file().frames[LANGUAGES[item.kind]]
        passages = [
            frame.passage.format(number=number, text=text)
            for number, text in enumerate(item.facts["passages"], start=1)
        ]
        asked = frame.asked[0].format(passages="\n\n".join(passages), question=item.question)
        return one_question(item, AFTER_IMAGE + asked)


BENCHMARK = VlrBench

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
