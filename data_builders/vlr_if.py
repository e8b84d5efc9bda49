"""VLR-IF: answering from the passage that belongs to a picture, among others (arXiv 2412.10151, section 4).

    picture's facts ──prompts/vlr_if.yaml──▶ passage, question, answer, what is said without help
    passages of the pictures that are most alike ──▶ invalid ones
        V        the valid passage ──▶ the answer
        VI, VII  the valid one among one or two invalid, in each place equally often ──▶ the answer
        I, II    invalid ones alone ──▶ that nothing helps

Without a model the prompt's template writes of an invented museum's exhibits: what the passages tell stands in no
picture, and the passages of pictures that look alike tell other things.
"""

from __future__ import annotations

import functools
import random
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field

from mminstruct.building import BadItem, Builder, Job
from mminstruct.building.job import Answer
from mminstruct.building.prompt import Prompt, Told, dialogue
from mminstruct.building.replies import json_reply, strict_schema
from mminstruct.building.request import Parameters
from mminstruct.building.retrieval import Bm25, cut
from mminstruct.building.rows import checked
from mminstruct.building.words import words
from mminstruct.config import Config, load_yaml, validate
from mminstruct.conversation import Conversation, Message, Record, image, message, text
from mminstruct.data_builders.worlds.exhibits import exhibit
from mminstruct.data_builders.worlds.pictures import Source, keep
from mminstruct.errors import ConfigError, DataError, ReplyError
from mminstruct.files import JsonLines

Kind = Literal["V", "I", "II", "VI", "VII"]
Language = Literal["English", "Chinese", "Korean"]

PROMPTS = Path(__file__).parent / "prompts" / "vlr_if.yaml"
INVALID: dict[Kind, tuple[int, ...]] = {
    "V": (),
    "I": (0,),
    "II": (0, 1),
    "VI": (1,),
    "VII": (0, 1),
}  # of the picture's neighbours
_LEAST_WORDS = 15


class Known(Record):
    """A question that no picture answers, and its answer out of a passage."""

    question: str
    answer: str


class Facts(Record):
    """What is known of a picture. `passage` and `known` are the template's, where the world has them."""

    id: str
    image: str
    captions: list[str] = Field(min_length=1)
    passage: str | None = None
    known: list[Known] = Field(default_factory=list)


@dataclass(frozen=True)
class Asked:
    facts: Facts
    language: Language
    picture: bool  # whether the model sees it


class Reply(BaseModel):
    passage: str
    question: str
    answer: str
    unanswerable: str


class PassageFile(Told):
    unanswerable: list[str]


class Frame(Config):
    passage: str
    asked: list[str] = Field(min_length=1)


class PromptFile(Config):
    passage: PassageFile
    frames: dict[Language, Frame]


@functools.cache
def prompt_file() -> PromptFile:
    return validate(PromptFile, load_yaml(PROMPTS), where=str(PROMPTS))


@functools.cache
def _told(language: Language) -> Told:
    found = prompt_file().passage
    return Told(system=found.system.format(language=language), examples=found.examples)


class PassagePrompt(Prompt[Asked, Reply]):
    name = "vlr-if/passage"
    parameters: ClassVar[Parameters] = Parameters(temperature=0.7, max_tokens=1024)
    reply_schema: ClassVar[dict[str, Any] | None] = strict_schema(Reply)

    def messages(self, facts: Asked) -> list[Message]:
        told = "\n".join(facts.facts.captions)
        return dialogue(_told(facts.language), *([image()] if facts.picture else []), told)

    def parse(self, reply: str, facts: Asked) -> Reply:
        found = json_reply(reply, Reply)
        for key, value in found.model_dump().items():
            if not value.strip():
                raise ReplyError(f"{key!r} is empty")
        if len(words(found.passage)) < _LEAST_WORDS:
            raise ReplyError(f"the passage is shorter than {_LEAST_WORDS} words")
        if not found.question.rstrip().endswith(("?", "？")):
            raise ReplyError("the question does not end with a question mark")
        if " ".join(words(found.answer)) == " ".join(words(found.unanswerable)):
            raise ReplyError("'answer' and 'unanswerable' say the same")
        return found

    def template(self, facts: Asked, rng: random.Random) -> str:
        """Of the world's facts; of captions alone, what the passage says that the picture shows."""
        if facts.language != "English":
            raise ConfigError(f"templates write English; ask a model (--backend) for {facts.language}")
        own = facts.facts
        asked = Known(question="Which description of this picture does the passage give?", answer=own.captions[0])
        known = rng.choice(own.known) if own.known else asked
        passage = own.passage or f"The following is said of a picture in this collection. {' '.join(own.captions)}"
        without = rng.choice(prompt_file().passage.unanswerable)
        reply = Reply(passage=passage, question=known.question, answer=known.answer, unanswerable=without)
        return reply.model_dump_json()


PASSAGE = PassagePrompt()


@dataclass(frozen=True)
class Picture:
    """A picture with its neighbours, the most alike first. `where` says what names it."""

    id: str
    number: int
    facts: Facts
    source: Source
    where: str
    neighbours: tuple[Picture, ...] = ()


@functools.lru_cache(maxsize=4096)
def _exhibit(seed: int, number: int) -> Picture:
    """An exhibit of the museum; each is a neighbour of several."""
    shown = exhibit(seed, number)
    chance = random.Random(f"vlr-if/{seed}/{number}")
    known = [
        Known(
            question=shown.question(kind, "this picture", chance),
            answer=f"This is {shown.name}. {shown.statement(kind, shown.facts[kind], 'it', chance)}",
        )
        for kind in shown.told
    ]
    name = f"exhibits/{seed}/{number}"
    facts = Facts(id=name, image=name, captions=shown.scene.captions(), passage=shown.passage, known=known)
    return Picture(name, number, facts, shown.scene, name)


class VlrIf(Builder[Picture]):
    name = "vlr-if"
    version = "2"
    summary = "VLR-IF: questions about pictures that one of the passages answers, or none."
    licence = "Apache-2.0"
    asks = True

    class Options(Config):
        """What is built.

        Args:
            kinds: each gives one conversation a picture. VLR-IF has all but II, so there a model could learn that of
                several passages one always helps.
            count: how many exhibits, where no file is given.
            seed: of the exhibits.
            facts: JSON lines of `{"id", "image", "captions"}` instead.
            media_root: the folder of that file's pictures; left out, the file's own.
            show_picture: whether the model sees the picture beside its captions.
            language: of passages, questions and answers; templates write English.
            passage_words: how long a passage may be.
        """

        kinds: list[Kind] = Field(default=["V", "I", "VI", "VII"], min_length=1)
        count: int = Field(default=100, ge=4)
        seed: int = 0
        facts: Path | None = None
        media_root: Path | None = None
        show_picture: bool = False
        language: Language = "English"
        passage_words: int = Field(default=150, ge=_LEAST_WORDS)

    options: Options

    def items(self) -> Iterator[Picture | BadItem]:
        rows = None if self.options.facts is None else JsonLines(self.options.facts)
        looks = array("q")
        bad: dict[int, BadItem] = {}

        def described() -> Iterator[str]:
            given = ((0, None) for _ in range(self.options.count)) if rows is None else rows
            for number, (line, value) in enumerate(given):
                try:
                    caption = self._picture(number, line, value).facts.captions[0]
                except DataError as error:
                    bad[number] = BadItem(f"{self.options.facts}:{line}", error)
                    caption = ""  # which is like no other
                looks.append(zlib.crc32(" ".join(sorted(words(caption))).encode()))
                yield caption

        search = Bm25(described())
        for number in range(len(looks)):
            if number in bad:
                yield bad[number]
                continue
            one = self._picture(number, *((0, None) if rows is None else rows[number]))
            found = search.search(one.facts.captions[0], 24, [number])
            # A picture that is described in the same words could be meant as well.
            near = [other for other in found if looks[other] != looks[number]][:8]
            neighbours = [self._picture(other, *((0, None) if rows is None else rows[other])) for other in near]
            yield replace(one, neighbours=tuple(neighbours))

    def where(self, item: Picture) -> str:
        return "" if self.options.facts is None else item.where

    def count(self) -> int | None:
        return self.options.count if self.options.facts is None else None

    def _picture(self, number: int, line: int, value: Any) -> Picture:
        """The picture of a number: of the file's row that is given, or of the museum. It is made when it is needed."""
        path = self.options.facts
        if path is None:
            return _exhibit(self.options.seed, number)
        if isinstance(value, dict):
            value = {key: value[key] for key in ("id", "image", "captions") if key in value}
        where = f"{path}:{line}"
        facts = checked(Facts, value, where)
        return Picture(facts.id, number, facts, (self.options.media_root or path.parent) / facts.image, where)

    def make(self, item: Picture, job: Job) -> Iterator[Conversation]:
        own = self._ask(item, job)
        media = keep(item.source, job, item.where)
        invalid = self._invalid(item, job)
        frame = prompt_file().frames[self.options.language]
        for kind in self.options.kinds:
            if any(place >= len(invalid) for place in INVALID[kind]):
                job.drop("no passage of another picture")
                continue
            used = [invalid[place] for place in INVALID[kind]]
            others = [name for name, _ in used]
            shown, gold = list(used), None
            if "V" in kind:
                gold = item.number % (len(shown) + 1)  # each place equally often
                shown.insert(gold, (item.id, own))
            passages = [cut(reply.value.passage, self.options.passage_words) for _, reply in shown]
            listed = "\n\n".join(
                frame.passage.format(number=number, text=passage) for number, passage in enumerate(passages, start=1)
            )
            asked = job.random.choice(frame.asked).format(passages=listed, question=own.value.question)
            answer = own.value.unanswerable if gold is None else own.value.answer
            names = [name for name, _ in shown]
            yield Conversation(
                id=f"vlr-if/{item.id}/{kind}",
                messages=[message("user", image(), text(f"\n{asked}")), message("assistant", answer)],
                media=[media],
                answers=[answer],
                task=f"vlr-if+{kind}",
                passages=passages,
                extra={"gold": gold, "passage_ids": names},
                provenance=job.provenance([item.id, *others], own, *(reply for _, reply in used)),
            )

    def _ask(self, picture: Picture, job: Job) -> Answer[Reply]:
        """A picture's passage; however many pictures want it, the log has its reply once."""
        shown = [keep(picture.source, job, picture.where)] if self.options.show_picture else []
        return job.ask(PASSAGE, Asked(picture.facts, self.options.language, self.options.show_picture), shown)

    def _invalid(self, item: Picture, job: Job) -> list[tuple[str, Answer[Reply]]]:
        """(picture, reply) of as many neighbours as are needed; those without a usable reply are passed over."""
        needed = max((place + 1 for kind in self.options.kinds for place in INVALID[kind]), default=0)
        found: list[tuple[str, Answer[Reply]]] = []
        for neighbour in item.neighbours:
            if len(found) == needed:
                break
            try:
                found.append((neighbour.id, self._ask(neighbour, job)))
            except ReplyError:
                job.drop("a neighbour without a usable passage")
        return found


BUILDER = VlrIf
