"""MMBench and MMBench-CN (Liu et al., ECCV 2024, arXiv 2307.06281): options asked in every rotation (CircularEval).

    mmbench_dev_20230712.tsv {index, question, hint, A..D, answer, category, image (base64)}
        ─ a row a question ─▶ a question for each rotation of its options, at index + 1,000,000 k
        ─ rows of all rounds ─▶ as they are
    images ─▶ FILE.images/ (option `cache`)

A question is right only if it is right in all rotations; so the option `circular=false` (one pass, "VanillaEval") asks
what is a different and easier benchmark. Prompts are LLaVA-1.5's, in English and Chinese; they differ by their last
line, which goes with the language of the file: the Chinese file is asked with protocol=llava-1.5-cn.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mminstruct.config import Config
from mminstruct.conversation import Conversation
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol, one_question
from mminstruct.evaluation.embedded_images import Embedded, Shared
from mminstruct.evaluation.local_files import found
from mminstruct.evaluation.option_tables import all_rounds, first_rounds, item_of, rows

LETTER = "Answer with the option's letter from the given choices directly."
LETTER_CN = "请直接回答选项字母。"
CHOICES = "\n{question}\n{choices}\n"  # behind the image
LLAVA_TOKENS = 1024  # the longest answer of model_vqa_mmbench.py and model_vqa_science.py


def hinted(item: Item) -> Item:
    """The item as LLaVA asks it: its hint on a line before the question, options up to the first empty one."""
    hint = str(item.facts.get("hint", ""))
    shown = tuple(itertools.takewhile(bool, item.choices))
    return replace(item, question=f"{hint}\n{item.question}" if hint else item.question, choices=shown)


class MmBench(Benchmark):
    name = "mmbench"
    summary = "MMBench and MMBench-CN: multiple choice, right in every rotation of the options."
    primary_scorer = "mmbench.exact-matching"
    further_scorers = ("mmbench.vanilla", "mmbench.lmms-eval")
    protocols = (
        Protocol(
            name="llava-1.5",
            source="LLaVA-1.5 (arXiv 2310.03744), llava/eval/model_vqa_mmbench.py --single-pred-prompt --all-rounds",
            max_new_tokens=LLAVA_TOKENS,
            prompt=CHOICES + LETTER,
        ),
        Protocol(
            name="llava-1.5-cn",
            source="the same with --lang cn, for MMBench-CN",
            max_new_tokens=LLAVA_TOKENS,
            prompt=CHOICES + LETTER_CN,
        ),
        Protocol(
            name="first-token",
            source="this project: the prompt of llava-1.5, the most probable of the letters; not comparable with it",
            max_new_tokens=1,
            prompt=CHOICES + LETTER,
            first_token=True,
        ),
    )
    licence = "Apache-2.0 (open-compass/MMBench); the images have licences of their own"
    data = (
        "MMBench of open-compass: a table with answers, file=mmbench_dev_20230712.tsv or MMBench_DEV_EN.tsv, "
        "and for Chinese file=mmbench_dev_cn_20231003.tsv"
    )

    class Options(Config):
        """The official table, where its images are written, and whether all rotations are asked."""

        file: Path
        cache: Path | None = None
        circular: bool = True

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where the file is missing, not as described, or has an image that is none."""
        images = Shared(Embedded(self.options.file, self.options.cache))
        asked = []
        for place, row in rows(found(self.options.file, self.data, tables=True)):
            image = images.keep(row.get("index", ""), row.get("image", ""), place)
            asked.append(replace(item_of(place, row), images=(image,)))
        yield from all_rounds(asked) if self.options.circular else first_rounds(asked)

    def conversation(self, item: Item) -> Conversation:
        return one_question(item, self.protocol.text(hinted(item)))


BENCHMARK = MmBench

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
