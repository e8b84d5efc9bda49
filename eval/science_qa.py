"""ScienceQA (Lu et al., NeurIPS 2022, arXiv 2209.09513): school questions, here those of the test set with a picture.

    problems.json, pid_splits.json ─▶ 4,241 test questions, 2,017 of them with a picture (IMG)
    images/test/PID/image.png

LLaVA-1.5's numbers are those of the IMG part, which is what is asked; `part=all` asks the others too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from mminstruct.config import Config
from mminstruct.conversation import Conversation
from mminstruct.eval.mmbench import LETTER, LLAVA_TOKENS
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol, lettered, one_question
from mminstruct.evaluation.local_files import Pictures, found
from mminstruct.evaluation.scorers.scienceqa import read_gold


class ScienceQa(Benchmark):
    name = "science-qa"
    summary = "ScienceQA (IMG): school questions with two to five options about a picture."
    primary_scorer = "scienceqa.llava"
    further_scorers = ("scienceqa.official", "scienceqa.lmms-eval")
    protocols = (
        Protocol(
            name="llava-1.5",
            source="LLaVA-1.5 as lmms-eval asks it (tasks/scienceqa/utils.py): no context line without a hint",
            max_new_tokens=LLAVA_TOKENS,
            prompt="{context}{question}\n{choices}\n" + LETTER,
        ),
        Protocol(
            name="cqm",
            source="LLaVA, scripts/convert_sqa_to_llava_base_prompt.py (CQM-A), and the line of --single-pred-prompt",
            max_new_tokens=LLAVA_TOKENS,
            prompt="Context: {hint}\nQuestion: {question}\nOptions: {options}\n" + LETTER,
        ),
    )
    licence = "CC BY-NC-SA 4.0 (lupantech/ScienceQA)"
    data = (
        "ScienceQA of lupantech: folder=DIR with problems.json and pid_splits.json (data/scienceqa), and "
        "images=images/test, where 'tools/download.sh' puts them"
    )

    class Options(Config):
        """The folder of problems.json, the folder of images, and which questions are asked."""

        folder: Path
        images: Path
        part: Literal["img", "all"] = "img"

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or an image is missing or not as described."""
        pictures = Pictures(self.options.images, self.data)
        found(self.options.folder / "problems.json" if self.options.folder.is_dir() else self.options.folder, self.data)
        for item in read_gold(self.options.folder):
            if item.images or self.options.part == "all":
                names = [(str(path), f"test/{path}") for path in item.images]
                yield replace(item, images=tuple(pictures.named(*both) for both in names))

    def conversation(self, item: Item) -> Conversation:
        hint = str(item.facts.get("hint", ""))
        options = " ".join(f"({letter}) {text}" for letter, text in zip("ABCDE", item.choices, strict=False))
        parts = {
            "{context}": f"Context: {hint}\n" if hint else "",
            "{hint}": hint or "N/A",
            "{options}": options,
            "{choices}": lettered(item.choices),
            "{question}": item.question,
        }
        return one_question(item, ("\n" if item.images else "") + filled(self.protocol.prompt, parts))


def filled(prompt: str, parts: dict[str, str]) -> str:
    """A prompt with texts at its places, each place by itself, so that no text is taken for one."""
    for place, text in parts.items():
        before, found_place, behind = prompt.partition(place)
        if found_place:
            rest = {other: value for other, value in parts.items() if other != place}
            return filled(before, rest) + text + filled(behind, rest)
    return prompt


BENCHMARK = ScienceQa

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
