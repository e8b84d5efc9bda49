"""MMInstruct's prompts: a caption, and questions of five types out of it, in English or Chinese (arXiv 2407.15838).

    (domain, known, language) ──CaptionPrompt──▶ passage
    Asked(caption, seeds, ...) ──TYPES[type]──▶ [Question, ...]   judgement | choice | long | short | rounds

Replies stand in tags, `<Q1>...</Q1><A1>...</A1>`. Templates fill seed questions with a world's facts.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

from pydantic import Field

from mminstruct.building.options import lettered, named_option, with_letters
from mminstruct.building.prompt import Prompt, Told, dialogue
from mminstruct.building.replies import require_different, tagged
from mminstruct.building.request import Parameters
from mminstruct.building.words import words
from mminstruct.config import Config, load_yaml, validate
from mminstruct.conversation import Message, image, text
from mminstruct.data_builders.worlds.fills import Fill, Known, draw
from mminstruct.errors import DataError, ReplyError

Type = Literal["judgement", "choice", "long", "short", "rounds"]
Language = Literal["en", "zh"]

LETTERS = "ABCD"
_PROMPTS = Path(__file__).parent.parent / "prompts"


@dataclass(frozen=True)
class Speech:
    """What differs by language. A Chinese character is a word here.

    Attributes:
        file: of prompts.
        unknown: prior knowledge where there is none.
        yes, no: how an answer says so.
        affirming, denying: what else is taken for that.
        told: what a question or an answer that speaks of the description says.
        caption, long, short: the least words of a caption and of a long answer, the most of a short one.
    """

    file: Path
    unknown: str
    yes: str
    no: str
    affirming: frozenset[str]
    denying: frozenset[str]
    told: re.Pattern[str]
    caption: int
    long: int
    short: int


SPEECH: Mapping[Language, Speech] = MappingProxyType(
    {
        "en": Speech(
            file=_PROMPTS / "mminstruct.yaml",
            unknown="Empty",
            yes="Yes",
            no="No",
            affirming=frozenset({"yes"}),
            denying=frozenset({"no"}),
            told=re.compile(r"\b(descriptions?|captions?)\b", re.IGNORECASE),
            caption=20,
            long=8,
            short=10,
        ),
        "zh": Speech(
            file=_PROMPTS / "mminstruct.zh.yaml",
            unknown="无",
            yes="是",
            no="否",
            affirming=frozenset({"是", "是的", "对", "yes"}),
            denying=frozenset({"否", "不是", "不对", "no"}),
            told=re.compile(r"(根据|按照|这段|上述|以上|图片)描述|描述(中|里|提到|说|的内容)"),
            caption=40,
            long=15,
            short=20,
        ),
    }
)


class TypeFile(Told):
    endings: list[str] = Field(min_length=10)  # ways to say which form the answer is to have


class CaptionFile(Told):
    question: str
    text: str


class PromptFile(Config):
    caption: CaptionFile
    question: str
    types: dict[Type, TypeFile]
    leads: list[str]
    requests: list[str]


class Domain(Config):
    """Seed questions by type, each with the fact that answers it, or null where only a model can. Conversations of
    several rounds take those with long answers, unless they have their own."""

    summary: str
    seeds: dict[Type, dict[str, str | None]]

    def of(self, type: Type) -> dict[str, str | None]:
        return self.seeds.get(type) or (self.seeds.get("long", {}) if type == "rounds" else {})


@functools.cache
def prompt_file(language: Language = "en") -> PromptFile:
    file = SPEECH[language].file
    return validate(PromptFile, load_yaml(file), where=str(file))


@functools.cache
def load_domain(file: Path) -> Domain:
    return validate(Domain, load_yaml(file), where=str(file))


@dataclass(frozen=True)
class Asked:
    """What questions are made of.

    Attributes:
        seeds: those that the model is shown.
        spare: all of the domain, with their facts.
        known: what templates answer of.
    """

    domain: str
    caption: str
    knowledge: str
    seeds: Sequence[str]
    spare: dict[str, str | None]
    known: Known
    language: Language = "en"

    @property
    def speech(self) -> Speech:
        return SPEECH[self.language]


@dataclass(frozen=True)
class Question:
    """`answer` is one of the options where there are some; of a judgement it is Yes or No in any language."""

    text: str
    answer: str
    options: Sequence[str] = ()


@dataclass(frozen=True)
class Seen:
    """What a caption is made of."""

    domain: str
    known: Known
    language: Language = "en"


class CaptionPrompt(Prompt[Seen, str]):
    """The reply is a passage; a short one is a refusal, or cut off."""

    name = "mminstruct/caption"
    parameters: ClassVar[Parameters] = Parameters(temperature=0.7, max_tokens=1024)

    def messages(self, facts: Seen) -> list[Message]:
        file = prompt_file(facts.language).caption
        lines = f"\n{file.text.format(text=chr(10).join(facts.known.text))}" if facts.known.text else ""
        return dialogue(file, image(), text(file.question.format(domain=facts.domain) + lines))

    def parse(self, reply: str, facts: Seen) -> str:
        told = " ".join(reply.split())
        count, least = len(words(told)), SPEECH[facts.language].caption
        if count < least:
            raise ReplyError(f"the description has {count} words, too few to ask questions about; write 120 or more")
        return told

    def template(self, facts: Seen, rng: random.Random) -> str:
        if not facts.known.caption:
            raise DataError("nothing is known of the picture, so no template describes it; ask a model (--backend)")
        return facts.known.caption


class QuestionPrompt(Prompt[Asked, list[Question]]):
    """One of the types; `tags` of each question, and of how many there may be."""

    parameters: ClassVar[Parameters] = Parameters(temperature=0.7, max_tokens=1024)
    type: ClassVar[Type]
    tags: ClassVar[str] = "QA"
    counts: ClassVar[tuple[int, int]] = (3, 3)

    def messages(self, facts: Asked) -> list[Message]:
        file = prompt_file(facts.language)
        asked = file.question.format(
            domain=facts.domain,
            caption=facts.caption,
            knowledge=facts.knowledge or facts.speech.unknown,
            seeds="\n".join(f"- {seed}" for seed in facts.seeds),
        )
        return dialogue(file.types[self.type], asked)

    def parse(self, reply: str, facts: Asked) -> list[Question]:
        found = tagged(reply, self.tags)
        least, most = self.counts
        if not least <= len(found) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise ReplyError(f"there are {len(found)} questions; write {wanted}")
        require_different([one["Q"] for one in found])
        return [self.question(number, one, facts.speech) for number, one in enumerate(found, start=1)]

    def question(self, number: int, found: dict[str, str], speech: Speech) -> Question:
        """The question of one number's texts. Raises `ReplyError`."""
        return Question(found["Q"], found["A"])

    def template(self, facts: Asked, rng: random.Random) -> str:
        rows = [self.written(asked, fill, rng, facts.speech) for asked, fill in self.drawn(facts, rng)]
        return "\n".join(
            "".join(f"<{tag}{number}>{value}</{tag}{number}>" for tag, value in row.items())
            for number, row in enumerate(rows, start=1)
        )

    def drawn(self, facts: Asked, rng: random.Random) -> list[tuple[str, Fill]]:
        return draw(facts.spare, facts.seeds, facts.known, [None] * self.counts[0], rng)

    def written(self, asked: str, fill: Fill, rng: random.Random, speech: Speech) -> dict[str, str]:
        return {"Q": asked, "A": fill.answer}


class JudgementPrompt(QuestionPrompt):
    name = "mminstruct/judgement"
    type = "judgement"
    counts = (4, 4)

    def parse(self, reply: str, facts: Asked) -> list[Question]:
        found = super().parse(reply, facts)
        yes = sum(one.answer == "Yes" for one in found)
        if 2 * yes != len(found):
            raise ReplyError(f"{yes} answers are Yes and {len(found) - yes} No; there must be two of each")
        return found

    def question(self, number: int, found: dict[str, str], speech: Speech) -> Question:
        answer = found["A"].rstrip(".!。！").casefold()
        if answer not in speech.affirming | speech.denying:
            raise ReplyError(f"<A{number}> is {found['A']!r}, neither {speech.yes} nor {speech.no}")
        return Question(found["Q"], "Yes" if answer in speech.affirming else "No")

    def drawn(self, facts: Asked, rng: random.Random) -> list[tuple[str, Fill]]:
        wanted: list[str | None] = ["Yes", "Yes", "No", "No"]
        rng.shuffle(wanted)
        return draw(facts.spare, facts.seeds, facts.known, wanted, rng)

    def written(self, asked: str, fill: Fill, rng: random.Random, speech: Speech) -> dict[str, str]:
        return {"Q": asked, "A": speech.yes if fill.answer == "Yes" else speech.no}


class ChoicePrompt(QuestionPrompt):
    name = "mminstruct/choice"
    type = "choice"
    tags = "QCA"

    def question(self, number: int, found: dict[str, str], speech: Speech) -> Question:
        options = lettered(found["C"], len(LETTERS), f"<C{number}>")
        return Question(found["Q"], named_option(found["A"], options, f"<A{number}>"), options)

    def written(self, asked: str, fill: Fill, rng: random.Random, speech: Speech) -> dict[str, str]:
        options = [fill.answer, *rng.sample(list(fill.wrong), 3)]
        rng.shuffle(options)
        return {"Q": asked, "C": with_letters(options), "A": LETTERS[options.index(fill.answer)]}


class LongPrompt(QuestionPrompt):
    name = "mminstruct/long"
    type: ClassVar[Type] = "long"

    def question(self, number: int, found: dict[str, str], speech: Speech) -> Question:
        if len(words(found["A"])) < speech.long:
            raise ReplyError(f"<A{number}> has fewer than {speech.long} words; answer in whole sentences")
        return Question(found["Q"], found["A"])


class ShortPrompt(QuestionPrompt):
    name = "mminstruct/short"
    type = "short"

    def question(self, number: int, found: dict[str, str], speech: Speech) -> Question:
        if len(words(found["A"])) > speech.short:
            raise ReplyError(f"<A{number}> has more than {speech.short} words; answer with a word or a phrase")
        return Question(found["Q"], found["A"])


class RoundsPrompt(LongPrompt):
    """The rounds of one conversation, each question behind the answer before."""

    name = "mminstruct/rounds"
    type = "rounds"
    counts = (3, 5)

    def drawn(self, facts: Asked, rng: random.Random) -> list[tuple[str, Fill]]:
        first, *rest = super().drawn(facts, rng)
        leads = rng.sample(prompt_file(facts.language).leads, len(rest))
        return [first, *((lead.format(question=asked), fill) for lead, (asked, fill) in zip(leads, rest, strict=True))]


CAPTION = CaptionPrompt()
TYPES: Mapping[Type, QuestionPrompt] = MappingProxyType(
    {prompt.type: prompt for prompt in (JudgementPrompt(), ChoicePrompt(), LongPrompt(), ShortPrompt(), RoundsPrompt())}
)
