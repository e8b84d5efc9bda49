"""MMMU-Pro (Yue et al., arXiv 2409.02813): MMMU's questions with ten options, or photographed with the question.

    DIR/standard (10 options)/test-*.parquet, DIR/standard (4 options)/, DIR/vision/ ─▶ 1,730 questions each

The protocol chooses the set as well as the prompt (`direct`: the letter at once; `cot`: think first). Images come
first, in the order of their marks, and "[image]" stands for each mark in the text, as in the authors' scripts; their
scripts put images behind the text, which the chat templates of the models they ran turn around.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mminstruct.config import Config
from mminstruct.conversation import Conversation
from mminstruct.errors import DataError
from mminstruct.eval.mmmu import Images
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol, lettered, one_question
from mminstruct.evaluation.embedded_images import Embedded
from mminstruct.evaluation.interleaved import MARK
from mminstruct.evaluation.local_files import found
from mminstruct.evaluation.scorers.mmmu_pro import read_rows

_SOURCE = "MMMU-Benchmark/MMMU, mmmu-pro/prompts.yaml and infer_transformers.py"
_LAST_LINE = (
    "The last line of your response should be of the following format: 'Answer: $LETTER' (without quotes) where LETTER "
    "is one of options."
)
_DIRECT = "Answer with the option letter from the given choices directly."
_THINK = f"Answer the preceding multiple choice question. {_LAST_LINE} Think step by step before answering."
_VISION_THINK = (
    f"Write out the multiple-choice question in the image and then solve it. {_LAST_LINE} "
    "Think step by step before answering."
)
VISION = "vision"
FOLDERS = {"standard-10": "standard (10 options)", "standard-4": "standard (4 options)", VISION: "vision"}


def _standard(name: str, line: str, tokens: int) -> Protocol:
    return Protocol(name, _SOURCE, tokens, prompt="\n{question}\n{choices}\n" + line)


class MmmuPro(Benchmark):
    name = "mmmu-pro"
    summary = "MMMU-Pro: college questions with ten or four options, or with the question in the picture."
    primary_scorer = "mmmu-pro.official"
    further_scorers = ("mmmu-pro.no-guess",)
    protocols = (
        _standard("standard-10-direct", _DIRECT, 50),
        _standard("standard-10-cot", _THINK, 4096),
        _standard("standard-4-direct", _DIRECT, 50),
        _standard("standard-4-cot", _THINK, 4096),
        Protocol("vision-direct", _SOURCE, 50, prompt=f"\n{_DIRECT} {_LAST_LINE}"),
        Protocol("vision-cot", _SOURCE, 4096, prompt=f"\n{_VISION_THINK}"),
    )
    licence = "Apache-2.0 (MMMU-Benchmark/MMMU); the images have licences of their own"
    data = (
        "MMMU/MMMU_Pro: data=DIR with the folders 'standard (10 options)', 'standard (4 options)' and 'vision' of "
        "Parquet files test-*.parquet"
    )

    class Options(Config):
        """The data set's folder, and where the images are written."""

        data: Path
        cache: Path | None = None

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file is missing or not as described, or a mark names an image that is missing."""
        kind = self.protocol.name.rpartition("-")[0]
        images = Images(Embedded(self.options.data, self.options.cache), None)
        for place, item, row in read_rows(found(self.options.data / FOLDERS[kind], self.data)):
            if kind == VISION:
                yield replace(item, images=(images.one(place, row.get("image")),))
                continue
            shown = images.of(place, row)
            marks = [int(mark) for text in (item.question, *item.choices) for mark in MARK.findall(text)]
            if any(not 1 <= mark <= len(shown) for mark in marks):
                raise DataError(
                    f"{place}: the question names image {max(marks)} of {len(shown)}; give the official file"
                )
            yield replace(item, images=tuple(shown[mark - 1] for mark in marks))

    def conversation(self, item: Item) -> Conversation:
        if self.protocol.name.startswith(VISION):
            return one_question(item, self.protocol.prompt)
        text = self.protocol.prompt.replace("{choices}", lettered(item.choices)).replace("{question}", item.question)
        return one_question(item, MARK.sub("[image]", text))


BENCHMARK = MmmuPro

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
