"""TGDoc's three tasks, text with its place in the picture (arXiv 2311.13194, section 3).

    lines with quads ──▶ detection    text ─▶ box, a few turns
                     ──▶ recognition  box ─▶ text, a few turns
                     ──▶ spotting     every line with its box, in the order in which it is read

A box is `[xmin, ymin, xmax, ymax]`: the upright box around the line's four corners, x in shares of the picture's width
and y in shares of its height as it is stored (not padded, not resized), from the top left, cut to 0..1, with three
digits. Of rotated text it is the box that encloses it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from mminstruct.building import Job
from mminstruct.config import Config, load_yaml, validate
from mminstruct.conversation import Conversation, Message, Part, image, message
from mminstruct.data_builders.worlds.text_pictures import TextBuilder, TextOptions, TextPicture
from mminstruct.evidence.layout import reading_order
from mminstruct.evidence.ocr import Box, TextLine

Kind = Literal["detection", "recognition", "spotting"]
Placed = tuple[TextLine, str]

PROMPTS = Path(__file__).parent / "prompts" / "tgdoc.yaml"


class PromptFile(Config):
    coordinates: list[str]
    detection: list[str]
    recognition: list[str]
    spotting: list[str]


@functools.cache
def prompt_file() -> PromptFile:
    return validate(PromptFile, load_yaml(PROMPTS), where=str(PROMPTS))


def shares(box: Box, size: tuple[int, int]) -> Box:
    """A box in pixels as shares of the picture, three digits."""
    left, top, right, bottom = (round(min(1.0, max(0.0, edge / size[axis % 2])), 3) for axis, edge in enumerate(box))
    return left, top, right, bottom


def written(box: Box) -> str:
    """`[0.100, 0.200, 0.300, 0.400]`"""
    return f"[{', '.join(f'{edge:.3f}' for edge in box)}]"


class Tgdoc(TextBuilder):
    name = "tgdoc"
    version = "2"
    summary = "TGDoc's detection, recognition and spotting of text, with boxes in shares of the picture."

    class Options(TextOptions):
        """What is built.

        Args:
            kinds: each gives one conversation a picture, where the picture has lines for it.
            turns: of detection and recognition at most.
            most_lines: of a picture for spotting; of one with more nothing is asked, since an answer that is cut off
                would teach to stop half-way.
            most_disagreement: of two engines, 0 to 1; above it a picture is left out.
        """

        kinds: list[Kind] = Field(default=["detection", "recognition", "spotting"], min_length=1)
        turns: int = Field(default=3, ge=1)
        most_lines: int = Field(default=40, ge=1)
        most_disagreement: float = Field(default=0.4, ge=0, le=1)

    options: Options

    def make(self, item: TextPicture, job: Job) -> Iterator[Conversation]:
        seen = self.read(item, job)
        if seen.agreement is not None and seen.agreement.disagreement > self.options.most_disagreement:
            job.drop("engines disagree")
            return
        placed = []
        for line in reading_order(seen.lines):
            left, top, right, bottom = box = shares(line.box, seen.size)
            if left < right and top < bottom:
                placed.append((line, written(box)))
        media, evidence = None, self.evidence(item, seen)
        for kind in self.options.kinds:
            turns = self._turns(kind, placed, job)
            if not turns:
                job.drop(f"no {kind}")
                continue
            media = media or self.save(item, seen, job)
            yield Conversation(
                id=f"tgdoc/{item.id}/{kind}",
                messages=turns,
                media=[media],
                task=f"tgdoc+{kind}",
                scores=seen.scores(),
                extra=evidence,
                provenance=job.provenance([item.id]),
            )

    def _turns(self, kind: Kind, placed: list[Placed], job: Job) -> list[Message]:
        asked: list[str] = getattr(prompt_file(), kind)
        coordinates = job.random.choice(prompt_file().coordinates)
        if kind == "spotting":
            if not 0 < len(placed) <= self.options.most_lines:
                return []
            told = "\n".join(f"{line.text} {box}" for line, box in placed)
            return _dialogue([(f"{job.random.choice(asked)} {coordinates}", told)])
        fit = _only(placed) if kind == "detection" else [one for one in placed if _alone(one[0], placed)]
        chosen = job.random.sample(fit, min(len(fit), self.options.turns))
        ways = job.random.sample(asked, len(asked))  # none twice, as long as they last
        turns = []
        for way, (line, box) in zip(itertools.cycle(ways), chosen, strict=False):
            question = way.format(text=line.text, box=box)
            if kind == "recognition":
                turns.append((question, line.text))
            else:
                turns.append((question if turns else f"{question} {coordinates}", box))
        return _dialogue(turns)


def _dialogue(turns: list[tuple[str, str]]) -> list[Message]:
    messages: list[Message] = []
    for question, answer in turns:
        content: list[Part | str] = [question] if messages else [image(), f"\n{question}"]
        messages += [message("user", *content), message("assistant", answer)]
    return messages


def _only(placed: list[Placed]) -> list[Placed]:
    """The lines whose text stands in no other one, so that there is one right place."""
    texts = [line.text.casefold() for line, _ in placed]
    return [
        one
        for one, own in zip(placed, texts, strict=True)
        if len(own) > 1 and '"' not in own and sum(own in other for other in texts) == 1
    ]


def _alone(line: TextLine, placed: list[Placed]) -> bool:
    """Whether no other line reaches into its box, so that there is one right text."""
    left, top, right, bottom = line.box
    for other, _ in placed:
        a, b, c, d = other.box
        if a < right and left < c and b < bottom and top < d and other is not line:
            high = min(bottom, d) - max(top, b)
            if high > 0.3 * min(bottom - top, d - b):
                return False
    return True


BUILDER = Tgdoc
