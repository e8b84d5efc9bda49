"""MMInstruct's four types of question, written by a model of a caption by a model (SCIS 2024, arXiv 2407.15838).

The data set MMInstruct (973K instructions) has this project's name by chance; this builds data in its way.

    picture, lines of text ──▶ caption ──┐
    prior knowledge, 3 seed questions ───┴▶ judgement | choice | long | short, in tags ──rules──▶ records

Pictures are those of worlds (shapes, bar charts), or of a file in MMInstruct's own form: a source list of
`{"image_path", "text": [lines], "bing_tag"}`, or its captions, which add `gpt4v_caption_interface`. Seed questions
stand in `tasks/mminstruct/DOMAIN.yaml`. Every question is a conversation of its own, with its caption in `extra`, and
in `scores` how close it is to a seed and which share of the answer's words the caption supports.

Without a model the prompts' templates fill seed questions with the world's facts, so all of their answers are true.
"""

from __future__ import annotations

import functools
import heapq
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import Field, ValidationError, field_validator

from mminstruct.building import Builder, Job
from mminstruct.building.job import Answer
from mminstruct.building.options import lettered, named_option, with_letters
from mminstruct.building.prompt import Prompt, Told, dialogue
from mminstruct.building.replies import require_different, tagged
from mminstruct.building.request import Parameters
from mminstruct.building.words import Rarity, content_words, numbers, rarity, similarity, support, text_vectors, words
from mminstruct.config import Config, load_yaml, validate
from mminstruct.conversation import Conversation, Message, Record, image, message, text
from mminstruct.data_builders.worlds import bar_charts, scene_facts, text_facts
from mminstruct.data_builders.worlds.fills import Fill, Known, draw
from mminstruct.data_builders.worlds.scenes import scene
from mminstruct.errors import DataError, ReplyError, did_you_mean
from mminstruct.formats.items import read_items

Type = Literal["judgement", "choice", "long", "short"]
Kind = Literal["caption", "judgement", "choice", "long", "short"]

PROMPTS = Path(__file__).parent / "prompts" / "mminstruct.yaml"
SEEDS = Path(__file__).parent / "tasks" / "mminstruct"
LETTERS = "ABCD"
SHOWN = 3  # seed questions in a prompt
UNKNOWN = "Empty"  # prior knowledge where there is none

_TOLD = frozenset({"description", "descriptions", "caption", "captions"})


class TypeFile(Told):
    endings: list[str] = Field(min_length=10)  # ways to say which form the answer is to have


class CaptionFile(Told):
    question: str
    text: str


class PromptFile(Config):
    caption: CaptionFile
    question: str
    types: dict[Type, TypeFile]
    requests: list[str]


class Domain(Config):
    """Seed questions by type, each with the fact that answers it, or null where only a model can."""

    summary: str
    seeds: dict[Type, dict[str, str | None]]


@functools.cache
def prompt_file() -> PromptFile:
    return validate(PromptFile, load_yaml(PROMPTS), where=str(PROMPTS))


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


@dataclass(frozen=True)
class Question:
    """`answer` is one of the options where there are some."""

    text: str
    answer: str
    options: Sequence[str] = ()


class CaptionPrompt(Prompt[tuple[str, Known], str]):
    """Facts are the domain's summary and what is known; the reply is a passage."""

    name = "mminstruct/caption"
    parameters: ClassVar[Parameters] = Parameters(temperature=0.7, max_tokens=1024)
    least = 20  # words; fewer are a refusal, or cut off

    def messages(self, facts: tuple[str, Known]) -> list[Message]:
        domain, known = facts
        file = prompt_file().caption
        lines = f"\n{file.text.format(text=chr(10).join(known.text))}" if known.text else ""
        return dialogue(file, image(), text(file.question.format(domain=domain) + lines))

    def parse(self, reply: str, facts: tuple[str, Known]) -> str:
        told = " ".join(reply.split())
        count = len(words(told))
        if count < self.least:
            raise ReplyError(f"the description has {count} words, too few to ask questions about; write 120 or more")
        return told

    def template(self, facts: tuple[str, Known], rng: random.Random) -> str:
        if not facts[1].caption:
            raise DataError("nothing is known of the picture, so no template describes it; ask a model (--backend)")
        return facts[1].caption


class QuestionPrompt(Prompt[Asked, list[Question]]):
    """One of the four types; `tags` of each question, and how many there are."""

    parameters: ClassVar[Parameters] = Parameters(temperature=0.7, max_tokens=1024)
    type: ClassVar[Type]
    tags: ClassVar[str] = "QA"
    count: ClassVar[int] = 3

    def messages(self, facts: Asked) -> list[Message]:
        asked = prompt_file().question.format(
            domain=facts.domain,
            caption=facts.caption,
            knowledge=facts.knowledge or UNKNOWN,
            seeds="\n".join(f"- {seed}" for seed in facts.seeds),
        )
        return dialogue(prompt_file().types[self.type], asked)

    def parse(self, reply: str, facts: Asked) -> list[Question]:
        found = tagged(reply, self.tags)
        if len(found) != self.count:
            raise ReplyError(f"there are {len(found)} questions; write {self.count}")
        require_different([one["Q"] for one in found])
        return [self.question(number, one) for number, one in enumerate(found, start=1)]

    def question(self, number: int, found: dict[str, str]) -> Question:
        """The question of one number's texts. Raises `ReplyError`."""
        return Question(found["Q"], found["A"])

    def template(self, facts: Asked, rng: random.Random) -> str:
        return "\n".join(
            "".join(f"<{tag}{number}>{value}</{tag}{number}>" for tag, value in self.written(asked, fill, rng).items())
            for number, (asked, fill) in enumerate(self.drawn(facts, rng), start=1)
        )

    def drawn(self, facts: Asked, rng: random.Random) -> list[tuple[str, Fill]]:
        return draw(facts.spare, facts.seeds, facts.known, [None] * self.count, rng)

    def written(self, asked: str, fill: Fill, rng: random.Random) -> dict[str, str]:
        return {"Q": asked, "A": fill.answer}


class JudgementPrompt(QuestionPrompt):
    name = "mminstruct/judgement"
    type = "judgement"
    count = 4

    def parse(self, reply: str, facts: Asked) -> list[Question]:
        found = super().parse(reply, facts)
        yes = sum(one.answer == "Yes" for one in found)
        if 2 * yes != self.count:
            raise ReplyError(f"{yes} answers are Yes and {self.count - yes} No; there must be two of each")
        return found

    def question(self, number: int, found: dict[str, str]) -> Question:
        answer = found["A"].rstrip(".!").capitalize()
        if answer not in ("Yes", "No"):
            raise ReplyError(f"<A{number}> is {found['A']!r}, neither Yes nor No")
        return Question(found["Q"], answer)

    def drawn(self, facts: Asked, rng: random.Random) -> list[tuple[str, Fill]]:
        wanted: list[str | None] = ["Yes", "Yes", "No", "No"]
        rng.shuffle(wanted)
        return draw(facts.spare, facts.seeds, facts.known, wanted, rng)


class ChoicePrompt(QuestionPrompt):
    name = "mminstruct/choice"
    type = "choice"
    tags = "QCA"

    def question(self, number: int, found: dict[str, str]) -> Question:
        options = lettered(found["C"], len(LETTERS), f"<C{number}>")
        return Question(found["Q"], named_option(found["A"], options, f"<A{number}>"), options)

    def written(self, asked: str, fill: Fill, rng: random.Random) -> dict[str, str]:
        options = [fill.answer, *rng.sample(list(fill.wrong), 3)]
        rng.shuffle(options)
        return {"Q": asked, "C": with_letters(options), "A": LETTERS[options.index(fill.answer)]}


class LongPrompt(QuestionPrompt):
    name = "mminstruct/long"
    type = "long"
    least = 8

    def question(self, number: int, found: dict[str, str]) -> Question:
        if len(found["A"].split()) < self.least:
            raise ReplyError(f"<A{number}> has fewer than {self.least} words; answer in whole sentences")
        return Question(found["Q"], found["A"])


class ShortPrompt(QuestionPrompt):
    name = "mminstruct/short"
    type = "short"
    most = 10

    def question(self, number: int, found: dict[str, str]) -> Question:
        if len(found["A"].split()) > self.most:
            raise ReplyError(f"<A{number}> has more than {self.most} words; answer with a word or a phrase")
        return Question(found["Q"], found["A"])


CAPTION = CaptionPrompt()
TYPES: dict[Type, QuestionPrompt] = {
    prompt.type: prompt for prompt in (JudgementPrompt(), ChoicePrompt(), LongPrompt(), ShortPrompt())
}


def closeness(question: str, seeds: Sequence[str]) -> float:
    """The greatest cosine between a question and a seed, places left out; 0 to 1."""
    rare, vectors = _seed_vectors(tuple(seeds))
    return float(similarity(text_vectors([question], rare), vectors).max())


@functools.lru_cache
def _seed_vectors(seeds: tuple[str, ...]) -> tuple[Rarity, np.ndarray]:
    bare = [re.sub(r"<[a-z]+>", " ", seed) for seed in seeds]
    rare = rarity(bare)
    return rare, text_vectors(bare, rare)


@dataclass(frozen=True)
class Drawn:
    """A world's picture."""

    picture: Image.Image
    known: Known


def _shapes(seed: int, number: int) -> Drawn:
    found = scene(seed, number)
    return Drawn(found.draw(), scene_facts.known(found, random.Random(f"mminstruct/{found.id}")))


def _charts(seed: int, number: int) -> Drawn:
    found = bar_charts.chart(seed, number)
    return Drawn(found.draw(), bar_charts.known(found, random.Random(f"mminstruct/{found.id}")))


WORLDS: dict[str, Callable[[int, int], Drawn]] = {"charts": _charts, "shapes": _shapes}


class Row(Record):
    """A line of a source file; keys of MMInstruct's own files that say how it was made are passed over."""

    image_path: str = Field(min_length=1)
    text: list[str] = Field(default_factory=list)
    bing_tag: str = ""
    gpt4v_caption_interface: str = ""
    gpt4v_prompt: Any = None


@dataclass(frozen=True)
class Picture:
    """A number of a world, or a row of a file, read when it is its turn, so that a broken one is left out alone."""

    id: str
    domain: str
    number: int
    row: Any = None
    where: str = ""


class MMInstruct(Builder[Picture]):
    name = "mminstruct-data"
    version = "1"
    summary = "MMInstruct's captions and its judgement, multiple-choice, long and short questions, by seed questions."
    licence = "Apache-2.0"
    asks = True

    class Options(Config):
        """What is built.

        Args:
            kinds: of conversations.
            quotas: how many pictures of each world; with a source, at most so many of its domain.
            seed: of the worlds.
            source: MMInstruct's source list or captions, JSON or JSON lines, instead of worlds.
            media_root: the folder of its pictures; left out, the file's own.
            domain: whose seed questions the source's pictures are asked.
            seeds: a folder of DOMAIN.yaml of one's own.
            min_support: questions are left out whose answer has a smaller share of its words in the caption.
            min_closeness: questions are left out that are further from all seed questions of the domain.
        """

        kinds: list[Kind] = Field(default=["caption", "judgement", "choice", "long", "short"], min_length=1)
        quotas: dict[str, int] = Field(default={"shapes": 60, "charts": 40})
        seed: int = 0
        source: Path | None = None
        media_root: Path | None = None
        domain: str = "pictures"
        seeds: Path | None = None
        min_support: float = Field(default=0.5, ge=0, le=1)
        min_closeness: float = Field(default=0.1, ge=0, le=1)

        @field_validator("quotas")
        @classmethod
        def _quotas_are_counts(cls, value: dict[str, int]) -> dict[str, int]:
            if any(count < 1 for count in value.values()):
                raise ValueError("give each domain one picture at least, or leave it out")
            return value

    options: Options

    def items(self) -> Iterator[Picture]:
        """Worlds take turns, each as often as its quota has it."""
        if self.options.source is not None:
            quota = self.options.quotas.get(self.options.domain)
            self._domain(self.options.domain)
            for number, (where, row) in enumerate(read_items(self.options.source)):
                if number == quota:
                    return
                yield Picture(f"{self.options.source.stem}/{number}", self.options.domain, number, row, where)
            return
        for name in self.options.quotas:
            if name not in WORLDS:
                raise DataError(f"no world draws pictures of the domain {name!r}.{did_you_mean(name, WORLDS)}")
            self._domain(name)
        turns = [
            [((number + 0.5) / quota, name, number) for number in range(quota)]
            for name, quota in sorted(self.options.quotas.items())
        ]
        for _, name, number in heapq.merge(*turns):
            yield Picture(f"{name}/{self.options.seed}/{number}", name, number)

    def count(self) -> int | None:
        return sum(self.options.quotas.values()) if self.options.source is None else None

    def _domain(self, name: str) -> Domain:
        folder = self.options.seeds or SEEDS
        if not (folder / f"{name}.yaml").is_file():
            names = [file.stem for file in folder.glob("*.yaml")]
            raise DataError(f"{folder} has no seed questions of the domain {name!r}.{did_you_mean(name, names)}")
        return load_domain(folder / f"{name}.yaml")

    def make(self, item: Picture, job: Job) -> Iterator[Conversation]:
        domain = self._domain(item.domain)
        if self.options.source is None:
            drawn = WORLDS[item.domain](self.options.seed, item.number)
            known, caption = drawn.known, ""
            media = job.save(drawn.picture, item.id)
        else:
            row = _row(item)
            file = (self.options.media_root or self.options.source.parent) / row.image_path
            media = job.copy(file, f"{item.id}{file.suffix}")
            caption = row.gpt4v_caption_interface.strip()
            chance = random.Random(f"mminstruct/{item.id}")
            known = text_facts.known([line for line in row.text if line.strip()], row.bing_tag, caption, chance)
        answers: list[Answer[Any]] = []
        if not caption:
            described = job.ask(CAPTION, (domain.summary, known), [media])
            caption = described.value
            answers.append(described)
        facts_of: dict[Type, Asked] = {}
        for kind in self.options.kinds:
            if kind != "caption":
                spare = domain.seeds.get(kind, {})
                shown = job.random.sample(list(spare), min(SHOWN, len(spare)))
                facts_of[kind] = Asked(domain.summary, caption, known.knowledge, shown, spare, known)
        replies = job.ask_all((TYPES[kind], facts) for kind, facts in facts_of.items())
        answer_of = dict(zip(facts_of, replies, strict=True))
        for kind in self.options.kinds:
            made: list[tuple[str, Question, dict[str, float], list[Answer[Any]]]] = []
            if kind == "caption":
                made = [(job.random.choice(prompt_file().requests), Question("", caption), {}, answers)]
            else:
                facts, answer = facts_of[kind], answer_of[kind]
                endings = prompt_file().types[kind].endings
                for question, scores in self._kept(answer.value, kind, facts, job):
                    placed = _placed(question, job.random)
                    lines = [placed.text, *([with_letters(placed.options)] if placed.options else [])]
                    lines.append(job.random.choice(endings))
                    made.append(("\n".join(lines), placed, scores, [*answers, answer]))
            for number, (asked, question, scores, calls) in enumerate(made):
                said = LETTERS[question.options.index(question.answer)] if question.options else question.answer
                yield Conversation(
                    id=f"mminstruct/{item.id}/{kind}/{number}",
                    messages=[message("user", image(), f"\n{asked}"), message("assistant", said)],
                    media=[media],
                    options=list(question.options) or None,
                    answers=None if kind in ("caption", "long") else [said],
                    task=f"mminstruct+{kind}",
                    scores=scores or None,
                    extra={"domain": item.domain} | ({} if kind == "caption" else {"caption": caption}),
                    provenance=job.provenance([item.id], *calls),
                )

    def _kept(
        self, asked: list[Question], kind: Type, facts: Asked, job: Job
    ) -> list[tuple[Question, dict[str, float]]]:
        """The questions that no rule leaves out, with their scores."""
        told = " ".join([facts.caption, facts.knowledge, *facts.known.text])
        evidence, figures = content_words(told), numbers(told)
        kept = []
        for question in asked:
            claim = question.text if question.answer == "Yes" else "" if question.answer == "No" else question.answer
            scores = {"closeness": round(closeness(question.text, list(facts.spare)), 3)}
            if claim:  # what a No denies need not be in the caption
                scores["support"] = round(support(claim, evidence), 3)
            if _TOLD & {*words(question.text), *words(question.answer)}:
                job.drop("speaks of the description")
            elif kind != "judgement" and numbers(claim) - figures:  # a Yes may compare with any number
                job.drop("a number is not in the caption")
            elif scores.get("support", 1.0) < self.options.min_support:
                job.drop("too few words are in the caption")
            elif scores["closeness"] < self.options.min_closeness:
                job.drop("too far from the seed questions")
            else:
                kept.append((question, scores))
        return _as_many_yes_as_no(kept, job) if kind == "judgement" else kept


def _as_many_yes_as_no(
    kept: list[tuple[Question, dict[str, float]]], job: Job
) -> list[tuple[Question, dict[str, float]]]:
    """The last of the more frequent answer go, until there are as many of the other."""
    counts = Counter(question.answer for question, _ in kept)
    least = min(counts["Yes"], counts["No"])
    seen: Counter[str] = Counter()
    balanced = []
    for question, scores in kept:
        seen[question.answer] += 1
        if seen[question.answer] <= least:
            balanced.append((question, scores))
        else:
            job.drop("more Yes than No, or No than Yes")
    return balanced


def _placed(question: Question, chance: random.Random) -> Question:
    """With the right option at a place of chance: models like to put it first or second."""
    if not question.options:
        return question
    others = [option for option in question.options if option != question.answer]
    at = chance.randrange(len(question.options))
    return Question(question.text, question.answer, [*others[:at], question.answer, *others[at:]])


def _row(item: Picture) -> Row:
    if isinstance(item.row, dict) and "qa_raw" in item.row:
        raise DataError(f"{item.where} has replies (qa_raw), not facts; give the source list or the captions")
    if isinstance(item.row, dict) and "err" in item.row:
        raise DataError(f"{item.where} says that its captioner failed; drop the line, or its key 'err'")
    try:
        return Row.model_validate(item.row)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{item.where}: {f'{key}: ' if key else ''}{first['msg']}; mend or drop it") from None


BUILDER = MMInstruct
