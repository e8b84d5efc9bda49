"""LLaVAR's first stage: pictures full of text, and the text that can be read in them (arXiv 2306.17107, section 3).

    picture ──short edge to 384 px──▶ engine ──▶ lines ──size, confidence──▶ paragraphs ──▶ one turn: read this

The engine sees a picture no larger than a vision encoder does, so that no target asks for what the model cannot see. A
second engine may read the same picture; where the two differ too much, the picture is left out.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from mminstruct.building import Job
from mminstruct.config import Config, load_yaml, validate
from mminstruct.conversation import Conversation, Part, image, message
from mminstruct.data_builders.worlds.text_pictures import TextBuilder, TextOptions, TextPicture
from mminstruct.evidence.layout import paragraphs

PROMPTS = Path(__file__).parent / "prompts" / "llavar_pretrain.yaml"


class PromptFile(Config):
    instructions: list[str] = Field(min_length=10)


@functools.cache
def prompt_file() -> PromptFile:
    return validate(PromptFile, load_yaml(PROMPTS), where=str(PROMPTS))


class LlavarPretrain(TextBuilder):
    name = "llavar-pretrain"
    version = "2"
    summary = "LLaVAR's first stage: pictures full of text and what can be read in them, by an engine or of a world."

    class Options(TextOptions):
        """What is built.

        Args:
            short_edge: 384, as LLaVAR has it.
            least_words: of a picture; those with fewer are left out.
            paragraph_gap: the widest one between two rows of a paragraph, in heights of a line.
            column_gap: boxes of a row that are further apart than so many heights are in different columns; null: a row
                goes over the whole width.
            rows: whether a paragraph's rows are joined by spaces, as LLaVAR does, or stay rows.
            most_disagreement: of two engines, 0 to 1; above it a picture is left out.
        """

        short_edge: int | None = Field(default=384, ge=16)
        least_words: int = Field(default=3, ge=1)
        paragraph_gap: float = Field(default=1.0, gt=0)
        column_gap: float | None = Field(default=None, gt=0)
        rows: Literal["joined", "kept"] = "joined"
        most_disagreement: float = Field(default=0.4, ge=0, le=1)

    options: Options

    def make(self, item: TextPicture, job: Job) -> Iterator[Conversation]:
        chosen = self.options
        seen = self.read(item, job)
        if seen.agreement is not None and seen.agreement.disagreement > chosen.most_disagreement:
            job.drop("engines disagree")
            return
        found = paragraphs(seen.lines, chosen.paragraph_gap, chosen.column_gap)
        target = "\n".join(one.text(" " if chosen.rows == "joined" else "\n") for one in found)
        if len(target.split()) < chosen.least_words:
            job.drop("too few words")
            return
        asked = job.random.choice(prompt_file().instructions)
        question: list[Part | str] = [image(), f"\n{asked}"]
        if job.random.random() < 0.5:
            question = [f"{asked}\n", image()]
        yield Conversation(
            id=f"llavar-pretrain/{item.id}",
            messages=[message("user", *question), message("assistant", target)],
            media=[self.save(item, seen, job)],
            task="llavar+read",
            scores=seen.scores(),
            extra=self.evidence(item, seen),
            provenance=job.provenance([item.id]),
        )


BUILDER = LlavarPretrain
