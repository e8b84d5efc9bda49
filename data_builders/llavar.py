"""LLaVAR's second stage: questions and answers about text-rich pictures, written by a language model that sees two
readings of the text (arXiv 2306.17107, section 3).

    picture ──two engines──▶ two readings ─┐
                             caption       ├─prompts/llavar.yaml──▶ one to three questions and answers
                                           ┘
Two engines err in different places, so the model can work out what is written. A world's picture that no engine reads
has two noisy readings simulated from its known text, and the record says so.

Without a model the templates answer: of what a world knows, or of the lines that both engines read alike.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from mminstruct.building import BadItem, Job
from mminstruct.building.prompt import Example, Prompt, Told, dialogue
from mminstruct.building.replies import pair, pairs
from mminstruct.building.request import Parameters
from mminstruct.building.rows import rows as rows_of
from mminstruct.config import Config, load_yaml, validate
from mminstruct.conversation import Conversation, Message, Part, Record, image, message
from mminstruct.data_builders.worlds.text_pictures import Seen, TextBuilder, TextOptions, TextPicture
from mminstruct.data_builders.worlds.text_questions import known, known_pairs, noisy, read_pairs
from mminstruct.errors import ConfigError, DataError, ReplyError
from mminstruct.evidence.agreement import agreement
from mminstruct.evidence.layout import paragraphs, rows
from mminstruct.evidence.ocr import TextLine

MOST_PAIRS = 3
PROMPTS = Path(__file__).parent / "prompts" / "llavar.yaml"
_NOT_THE_PICTURE = re.compile(r"\b(OCR|first reading|second reading|the caption|text recognition)\b", re.IGNORECASE)


class Shot(Config):
    caption: str
    first: str
    second: str
    reply: str


class Instruction(Config):
    system: str
    examples: list[Shot]


class PromptFile(Config):
    facts: str
    instruction: Instruction


@functools.cache
def prompt_file() -> PromptFile:
    return validate(PromptFile, load_yaml(PROMPTS), where=str(PROMPTS))


class Facts(Record):
    """
    Attributes:
        readings: of two engines, rows below one another.
        agreed: rows that both read alike.
        known: what the picture says, where a world has made it; the model is not shown it.
    """

    id: str
    caption: str
    readings: list[str] = Field(min_length=2, max_length=2)
    agreed: list[str]
    known: dict[str, Any] | None = None


class LlavarPrompt(Prompt[Facts, list[tuple[str, str]]]):
    """The reply is a list of (question, answer)."""

    name = "llavar/questions"
    version = "2"
    parameters: ClassVar[Parameters] = Parameters(temperature=0.7, max_tokens=768)

    @functools.cached_property
    def told(self) -> Told:
        file = prompt_file().instruction
        shots = [
            Example(question=_described(one.caption, one.first, one.second), reply=one.reply) for one in file.examples
        ]
        return Told(system=file.system, examples=shots)

    def messages(self, facts: Facts) -> list[Message]:
        return dialogue(self.told, _described(facts.caption, *facts.readings))

    def parse(self, reply: str, facts: Facts) -> list[tuple[str, str]]:
        found = pairs(reply)
        if len(found) > MOST_PAIRS:
            raise ReplyError(f"there are {len(found)} questions; write {MOST_PAIRS} at most")
        for question, answer in found:
            if named := _NOT_THE_PICTURE.search(f"{question} {answer}"):
                raise ReplyError(f"it speaks of {named[0]!r}; speak of the picture only")
        return found

    def template(self, facts: Facts, rng: random.Random) -> str:
        asked = known_pairs(facts.known, rng) if facts.known else read_pairs(facts.agreed, facts.readings, rng)
        if not asked:
            raise DataError(f"the two readings of {facts.id} agree on nothing that could be asked about")
        return "".join(pair(*one) for one in rng.sample(asked, min(MOST_PAIRS, len(asked))))


PROMPT = LlavarPrompt()


class Captioned(BaseModel):
    """A line of a file of captions: a picture's name below the source, and what it shows."""

    image: str
    caption: str


class Llavar(TextBuilder):
    name = "llavar"
    version = "3"
    summary = "LLaVAR's second stage: a language model's questions about text, of a caption and two engines' readings."
    asks = True

    class Options(TextOptions):
        """What is built.

        Args:
            captions: JSON lines of {"image": NAME BELOW SOURCE, "caption": TEXT} for a folder's pictures.
            noise: of simulated readings: the share of letters, twice this, and of spaces and lines that are spoilt.
            least_words: of the longer reading; pictures with fewer are left out.
            most_disagreement: of the two readings, 0 to 1; above it a picture is left out.
        """

        captions: Path | None = None
        noise: float = Field(default=0.03, ge=0, lt=0.5)
        least_words: int = Field(default=5, ge=1)
        most_disagreement: float = Field(default=0.6, ge=0, le=1)

    options: Options

    def __init__(self, options: Config | None = None) -> None:
        super().__init__(options)
        if (self.options.engine == "known") != (self.second is None):
            raise ConfigError(
                "llavar wants two readings of each picture; give engine and second, two of rapidocr, tesseract and "
                "given, or neither for simulated readings of the worlds"
            )

    @functools.cached_property
    def captions(self) -> tuple[dict[str, str], list[BadItem]]:
        """By the picture's name, and the lines that are none."""
        path = self.options.captions
        found = [] if path is None else list(rows_of(path, Captioned, lambda where, one: one))
        captions = {one.image: one.caption for one in found if isinstance(one, Captioned)}
        return captions, [one for one in found if isinstance(one, BadItem)]

    def items(self) -> Iterator[TextPicture | BadItem]:
        yield from self.captions[1]
        yield from super().items()

    def make(self, item: TextPicture, job: Job) -> Iterator[Conversation]:
        seen = self.read(item, job)
        first, second = (seen.lines, seen.second) if seen.second is not None else self._simulated(item, seen)
        facts = Facts(
            id=item.id,
            caption=self._caption(item),
            readings=[_text(first), _text(second)],
            agreed=sorted({line.text for line in rows(first)} & {line.text for line in rows(second)}),
            known=None if isinstance(item.source, Path) else known(item.source),
        )
        if max(len(reading.split()) for reading in facts.readings) < self.options.least_words:
            job.drop("too few words")
            return
        if facts.known is None and not facts.agreed:
            job.drop("engines agree on no line")
            return
        both = agreement(first, second)
        if both.disagreement > self.options.most_disagreement:
            job.drop("engines disagree")
            return
        answer = job.ask(PROMPT, facts)
        messages: list[Message] = []
        for question, reply in answer.value:
            content: list[Part | str] = [question]
            if not messages:
                content = [image(), f"\n{question}"]
                if job.random.random() < 0.5:
                    content = [f"{question}\n", image()]
            messages += [message("user", *content), message("assistant", reply)]
        evidence = self.evidence(item, seen)
        evidence["ocr"] |= {"simulated": seen.second is None, "readings": facts.readings}
        yield Conversation(
            id=f"llavar/{item.id}",
            messages=messages,
            media=[self.save(item, seen, job)],
            task="llavar+questions",
            scores=seen.scores() | {"ocr_disagreement": round(both.disagreement, 4)},
            extra={**evidence, "caption": facts.caption, "known": facts.known},
            provenance=job.provenance([item.id], answer),
        )

    def _simulated(self, item: TextPicture, seen: Seen) -> tuple[list[TextLine], list[TextLine]]:
        first, second = (
            random.Random(f"llavar/{which}/{self.options.seed}/{item.id}") for which in ("first", "second")
        )
        return noisy(seen.lines, first, self.options.noise), noisy(seen.lines, second, self.options.noise)

    def _caption(self, item: TextPicture) -> str:
        if not isinstance(item.source, Path):
            return item.source.caption()
        if self.options.captions is None:
            return "(none)"
        if item.id not in self.captions[0]:
            raise DataError(f"{self.options.captions} has no caption of {item.id}; add a line, or leave the option out")
        return self.captions[0][item.id]


def _text(lines: list[TextLine]) -> str:
    return "\n".join(one.text("\n") for one in paragraphs(lines))


def _described(caption: str, first: str, second: str) -> str:
    nothing = "(nothing)"
    return prompt_file().facts.format(caption=caption, first=first or nothing, second=second or nothing)


BUILDER = Llavar
