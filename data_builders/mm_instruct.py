"""Third of three steps of MM-Instruct: a bank's instructions, matched to pictures, answered by a model of descriptions.

MM-Instruct (Liu et al., 2024, 234K pairs) is not MMInstruct (973K), and neither is this project.

    bank ──similarity to the picture──▶ instruction ─┐
    description, in-context pairs ───────────────────┴▶ answer ──rules of coherence and alignment──▶ record

The bank is a data set that mm-instruct-bank built, or a YAML file; by default the one that its templates make. How well
an instruction fits a picture is the cosine of hashed words with the description, or, with `clip=DIR`, of CLIP's text
with CLIP's image, as in the paper. Without a model, templates write what the nearest of the seeds' kinds asks for, true
in every statement (`worlds/compositions.py`).
"""

from __future__ import annotations

import functools
import logging
import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from mminstruct import formats
from mminstruct.building import BadItem, Builder, Job
from mminstruct.building.clip import Clip
from mminstruct.building.prompt import Example, Prompt, Told, dialogue
from mminstruct.building.request import Parameters
from mminstruct.building.words import Rarity, content_words, rarity, similarity, support, text_vectors, unit, words
from mminstruct.config import load_yaml, validate
from mminstruct.conversation import Conversation, Message, image, message
from mminstruct.data_builders.mm_instruct_expand import (
    TOLD,
    BankFile,
    Described,
    PictureOptions,
    Shot,
    kind_of,
    pictures,
    prompt_file,
)
from mminstruct.data_builders.worlds.compositions import FORMS, Box
from mminstruct.errors import DataError, ReplyError

BANK = Path(__file__).parent / "prompts" / "mm_instruct_bank.yaml"
ALIKE = 0.4  # the cosine from which two instructions are not both drawn for one picture
SAME = 0.9  # the cosine from which an instruction is a copy of an earlier one of the bank
LEAST = 5  # words of an answer

_LOG = logging.getLogger(__name__)
_REFUSED = re.compile(r"\b(as an ai|i cannot|i can't|i can’t|i'm sorry|i am sorry|i'm unable|i am unable)\b")
_SENTENCE = re.compile(r"[.!?\n]+")


def load_bank(path: Path) -> list[str]:
    """The instructions of a YAML file or of a data set of mm-instruct-bank, each once, and no two nearly alike.

    Raises:
        ConfigError: the YAML file is not one of instructions.
        DataError: the data set cannot be read, or a record has no instruction.
    """
    if path.suffix in (".yaml", ".yml"):
        given = validate(BankFile, load_yaml(path), where=str(path)).instructions
    else:
        given = []
        for record in formats.read(path):
            match record.extra:
                case {"instruction": str(instruction)}:
                    given.append(instruction)
                case _:
                    raise DataError(
                        f"{path}: {record.id!r} has no instruction in extra; give a data set of mm-instruct-bank"
                    )
    vectors = unit(text_vectors(given))
    kept: list[int] = []
    for row in range(len(given)):
        if not kept or (vectors[kept] @ vectors[row]).max() < SAME:
            kept.append(row)
    if len(kept) < len(given):
        _LOG.info("%s: %d instructions are nearly those of others and left out", path, len(given) - len(kept))
    return [given[row] for row in kept]


@dataclass(frozen=True)
class Asked:
    """Facts of the prompt."""

    description: str
    things: Sequence[tuple[str, Box]]
    instruction: str
    shots: Sequence[Shot]


class AnswerPrompt(Prompt[Asked, str]):
    name = "mm-instruct/answer"
    parameters: ClassVar[Parameters] = Parameters(temperature=0.7, max_tokens=1024)

    def messages(self, facts: Asked) -> list[Message]:
        file = prompt_file().answer

        def question(description: str, instruction: str) -> str:
            return file.question.format(description=description.strip(), instruction=instruction)

        shots = [
            Example(question=question(shot.description, shot.instruction), reply=shot.answer) for shot in facts.shots
        ]
        return dialogue(Told(system=file.system, examples=shots), question(facts.description, facts.instruction))

    def parse(self, reply: str, facts: Asked) -> str:
        if len(words(reply)) < LEAST:
            raise ReplyError(f"the answer has fewer than {LEAST} words")
        return reply.strip()

    def template(self, facts: Asked, rng: random.Random) -> str:
        """In the form of the kind that the instruction is nearest to."""
        if len(facts.things) < 2:
            raise DataError(
                "no things of the picture are known, so no template can do what is asked about it; ask a model "
                "(--backend openai)"
            )
        return FORMS[kind_of(facts.instruction)](facts.things, rng)


ANSWER = AnswerPrompt()


def broken_rule(instruction: str, answer: str, alignment: float, least: float) -> str | None:
    """The rule of coherence or alignment that leaves an answer out, if one does."""
    said = words(answer)
    if _REFUSED.search(answer.casefold()):
        return "the answer refuses"
    if TOLD & set(said):
        return "the answer speaks of the description"
    if " ".join(words(instruction)) in " ".join(said):
        return "the answer repeats the instruction"
    sentences = Counter(" ".join(words(sentence)) for sentence in _SENTENCE.split(answer))
    if any(count > 2 and len(sentence.split()) > 3 for sentence, count in sentences.items()):
        return "the answer repeats itself"
    if alignment < least:
        return "the answer has too little of the description"
    return None


class MMInstructAnswers(Builder[Described]):
    name = "mm-instruct"
    version = "2"
    summary = "MM-Instruct's third step: pictures with instructions of a bank that fit, answered out of descriptions."
    licence = "Apache-2.0"
    asks = True

    class Options(PictureOptions):
        """What is built, besides `PictureOptions`.

        Args:
            bank: a data set of mm-instruct-bank, or a YAML file with `instructions`; left out, the templates' own.
            each: instructions a picture, fewer where the others of the bank are much like those.
            shots: in-context pairs in each prompt.
            temperature: of drawing instructions by similarity; 0 takes the most similar.
            clip: a folder of an open_clip model (open_clip_config.json and weights) that matches; left out, words do.
            min_alignment: answers with a smaller share of their words in the description are left out.
        """

        bank: Path | None = None
        each: int = Field(default=2, ge=1)
        shots: int = Field(default=2, ge=0)
        temperature: float = Field(default=0.1, ge=0)
        clip: Path | None = None
        min_alignment: float = Field(default=0.2, ge=0, le=1)

    options: Options

    def items(self) -> Iterator[Described | BadItem]:
        """Raises `DataError` where the bank cannot be read, or has too few instructions."""
        if self.options.each > len(self._bank):
            raise DataError(f"the bank has {len(self._bank)} instructions, fewer than each={self.options.each}")
        return pictures(self.options)

    def where(self, item: Described) -> str:
        return item.where

    def count(self) -> int | None:
        return self.options.scenes if self.options.descriptions is None else None

    @functools.cached_property
    def _bank(self) -> list[str]:
        return load_bank(self.options.bank or BANK)

    @functools.cached_property
    def _clip(self) -> Clip | None:
        return None if self.options.clip is None else Clip(self.options.clip)

    @functools.cached_property
    def _rarity(self) -> Rarity:
        return rarity(self._bank)

    @functools.cached_property
    def _instructions(self) -> np.ndarray:
        """One vector of length 1 an instruction."""
        return unit(text_vectors(self._bank, self._rarity) if self._clip is None else self._clip.texts(self._bank))

    @functools.cached_property
    def _alike(self) -> np.ndarray:
        """Cosines between the bank's own instructions."""
        vectors = text_vectors(self._bank)
        return similarity(vectors, vectors)

    def make(self, item: Described, job: Job) -> Iterator[Conversation]:
        media = item.media(job)
        fits = self._fits(item)
        evidence = content_words(item.description)
        for number, row in enumerate(drawn(fits, self._alike, self.options.each, self.options.temperature, job.random)):
            instruction = self._bank[row]
            shots = job.random.sample(
                prompt_file().answer.shots, min(self.options.shots, len(prompt_file().answer.shots))
            )
            answer = job.ask(ANSWER, Asked(item.description, item.things, instruction, shots))
            alignment = support(answer.value, evidence)
            rule = broken_rule(instruction, answer.value, alignment, self.options.min_alignment)
            if rule is not None:
                job.drop(rule)
                continue
            yield Conversation(
                id=f"mm-instruct/{item.id}/{number}",
                messages=[message("user", image(), f"\n{instruction}"), message("assistant", answer.value)],
                media=[media],
                task="mm-instruct",
                scores={"match": round(fits[row], 3), "alignment": round(alignment, 3)},
                extra={"description": item.description} | item.facts(),
                provenance=job.provenance([item.id], answer),
            )

    def _fits(self, item: Described) -> list[float]:
        """The picture's similarity to each instruction."""
        if self._clip is None:
            picture = text_vectors([item.description], self._rarity)
        else:
            picture = self._clip.image(item.source.draw() if not isinstance(item.source, Path) else item.source)
        fits: list[float] = (unit(picture) @ self._instructions.T)[0].tolist()
        return fits


def drawn(fits: Sequence[float], alike: np.ndarray, count: int, temperature: float, chance: random.Random) -> list[int]:
    """Up to `count` instructions, one after the other, each by `exp(fit / temperature)`, no two of them alike."""
    left = sorted(range(len(fits)), key=lambda row: (-fits[row], row))
    found: list[int] = []
    while left and len(found) < count:
        if temperature == 0:
            row = left[0]
        else:
            row = chance.choices(left, [math.exp((fits[one] - fits[left[0]]) / temperature) for one in left])[0]
        found.append(row)
        left = [one for one in left if one != row and alike[row, one] < ALIKE]
    return found


BUILDER = MMInstructAnswers
