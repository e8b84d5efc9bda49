"""MMMB (Parrot; Sun et al., arXiv 2406.02539): the same multiple choice questions in six languages, by CircularEval.

    MMMB_ar.tsv, MMMB_cn.tsv, MMMB_en.tsv, MMMB_pt.tsv, MMMB_ru.tsv, MMMB_tr.tsv, as MMBench's table
        ─▶ Item(en/17, MMMB_en.tsv.images/...)

The score is the mean of the languages', each of which has 2,000 questions; `languages` asks some of them. The
prompt that VLMEvalKit gives LLaVA ends in Chinese where the question has Chinese characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from mminstruct.config import Config
from mminstruct.conversation import Conversation
from mminstruct.errors import DataError
from mminstruct.eval.mmbench import CHOICES, LETTER, LETTER_CN, LLAVA_TOKENS, hinted
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol, one_question
from mminstruct.evaluation.embedded_images import Embedded, Shared
from mminstruct.evaluation.local_files import found
from mminstruct.evaluation.option_tables import all_rounds, first_rounds
from mminstruct.evaluation.scorers.mmmb import language_of, read_rows

_CHINESE = re.compile("[\u4e00-\u9fff]")


class Mmmb(Benchmark):
    name = "mmmb"
    summary = "MMMB: multiple choice in Arabic, Chinese, English, Portuguese, Russian and Turkish."
    primary_scorer = "mmmb.exact-matching"
    further_scorers = ("mmmb.vanilla",)
    protocols = (
        Protocol(
            name="llava-1.5",
            source="VLMEvalKit, vlm/llava/llava.py, build_prompt: LLaVA-1.5's line, in Chinese for Chinese questions",
            max_new_tokens=LLAVA_TOKENS,
            prompt=CHOICES + LETTER,
        ),
        Protocol(
            name="english-line",
            source="this project: LLaVA-1.5's line in English for all languages",
            max_new_tokens=LLAVA_TOKENS,
            prompt=CHOICES + LETTER,
        ),
    )
    licence = "Apache-2.0 (AIDC-AI/Parrot); its questions are of ScienceQA, SEED-Bench and MME, whose licences hold"
    data = "MMMB of AIDC-AI/Parrot: a folder with MMMB_ar.tsv, MMMB_cn.tsv, MMMB_en.tsv, MMMB_pt.tsv, ..., folder=DIR"

    class Options(Config):
        """The folder of tables, the languages that are asked, and as for MMBench where images go and the rotations."""

        folder: Path
        languages: list[Literal["ar", "cn", "en", "pt", "ru", "tr"]] = Field(
            default=["ar", "cn", "en", "pt", "ru", "tr"], min_length=1
        )
        cache: Path | None = None
        circular: bool = True

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a language's file is missing, not as described, or has an image that is none."""
        folder = found(self.options.folder, self.data)
        if not folder.is_dir():
            raise DataError(f"{folder} is a file; give the folder of tables; needed is: {self.data}")
        images: dict[str, Shared] = {}
        asked: dict[str, list[Item]] = {language: [] for language in self.options.languages}
        for place, item, row in read_rows(folder):
            language = language_of(item)
            if language not in asked:
                continue
            if language not in images:
                images[language] = Shared(Embedded(folder, self.options.cache))
            image = images[language].keep(row.get("index", ""), row.get("image", ""), place)
            asked[language].append(replace(item, images=(image,)))
        missing = [language for language, items in asked.items() if not items]
        if missing:
            raise DataError(f"{folder} has no questions in {', '.join(missing)}; needed is: {self.data}")
        for items in asked.values():
            yield from all_rounds(items) if self.options.circular else first_rounds(items)

    def conversation(self, item: Item) -> Conversation:
        prompt = self.protocol.text(hinted(item))
        if self.protocol.name == "llava-1.5" and _CHINESE.search(prompt):
            prompt = prompt.removesuffix(LETTER) + LETTER_CN
        return one_question(item, prompt)


BENCHMARK = Mmmb

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
