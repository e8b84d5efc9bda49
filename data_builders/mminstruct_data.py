"""MMInstruct's types of question, written by a model of a caption by a model (SCIS 2024, arXiv 2407.15838).

The data set MMInstruct (973K instructions) has this project's name by chance; this builds data in its way.

    picture, lines of text ──▶ caption ──┐
    prior knowledge, 3 seed questions ───┴▶ judgement | choice | long | short | rounds, in tags ──rules──▶ records

Pictures are those of worlds (shapes, bar charts), or of a file in MMInstruct's own form: a source list of
`{"image_path", "text": [lines], "bing_tag"}`, or its captions, which add `gpt4v_caption_interface`. Seed questions
stand in `tasks/mminstruct/DOMAIN.yaml`, those in Chinese in `DOMAIN.zh.yaml`. Every question is a conversation of its
own, but for `rounds`, whose questions are the turns of one; with its caption in `extra`, and in `scores` how close it
is to a seed and which share of the answer's words the caption supports.

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
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field, field_validator

from mminstruct.building import Builder, Job
from mminstruct.building.job import Answer
from mminstruct.building.options import with_letters
from mminstruct.building.rows import checked
from mminstruct.building.words import Rarity, content_words, numbers, rarity, support, text_vectors, unit
from mminstruct.config import Config
from mminstruct.conversation import Conversation, Media, Message, Provenance, Record, image, message, text
from mminstruct.data_builders.worlds import bar_charts, chinese_facts, scene_facts, text_facts
from mminstruct.data_builders.worlds.fills import Known
from mminstruct.data_builders.worlds.scenes import scene
from mminstruct.data_builders.worlds.typed_questions import (
    CAPTION,
    LETTERS,
    SPEECH,
    TYPES,
    Asked,
    Domain,
    Language,
    Question,
    Seen,
    Type,
    load_domain,
    prompt_file,
)
from mminstruct.errors import DataError, did_you_mean
from mminstruct.formats.items import each_value

Kind = Literal["caption", "judgement", "choice", "long", "short", "rounds"]

SEEDS = Path(__file__).parent / "tasks" / "mminstruct"
SHOWN = 3  # seed questions in a prompt
_CHINESE = re.compile("[\u4e00-\u9fff]")


def closeness(question: str, seeds: Sequence[str]) -> float:
    """The greatest cosine between a question and a seed, places left out; 0 to 1."""
    rare, vectors = _seed_vectors(tuple(seeds))
    return float((vectors @ unit(text_vectors([question], rare))[0]).max())


@functools.lru_cache
def _seed_vectors(seeds: tuple[str, ...]) -> tuple[Rarity, np.ndarray]:
    bare = [re.sub(r"<[a-z]+>", " ", seed) for seed in seeds]
    rare = rarity(bare)
    return rare, unit(text_vectors(bare, rare))


@dataclass(frozen=True)
class Drawn:
    """A world's picture; what is known of it, by language."""

    picture: Image.Image
    known: dict[Language, Known]


def _shapes(seed: int, number: int, languages: Sequence[Language]) -> Drawn:
    found = scene(seed, number)
    told = {"en": scene_facts.known, "zh": chinese_facts.of_scene}
    return Drawn(found.draw(), {one: told[one](found, random.Random(f"mminstruct/{found.id}")) for one in languages})


def _charts(seed: int, number: int, languages: Sequence[Language]) -> Drawn:
    found = bar_charts.chart(seed, number)
    told = {"en": bar_charts.known, "zh": chinese_facts.of_chart}
    return Drawn(found.draw(), {one: told[one](found, random.Random(f"mminstruct/{found.id}")) for one in languages})


WORLDS: dict[str, Callable[[int, int, Sequence[Language]], Drawn]] = {"charts": _charts, "shapes": _shapes}
_LINES = {"en": text_facts.known, "zh": chinese_facts.of_lines}


class Row(Record):
    """A line of a source file; keys of MMInstruct's own files that say how it was made are passed over.

    Attributes:
        domain: whose seed questions are asked, where it is not the option's.
    """

    image_path: str = Field(min_length=1)
    text: list[str] = Field(default_factory=list)
    bing_tag: str = ""
    gpt4v_caption_interface: str = ""
    gpt4v_prompt: Any = None
    domain: str | None = None


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
    version = "2"
    summary = "MMInstruct's captions, questions of four types and conversations of several rounds, by seed questions."
    licence = "Apache-2.0"
    asks = True

    class Options(Config):
        """What is built.

        Args:
            kinds: of conversations.
            languages: of captions, questions and answers; with both, every picture is asked about in both.
            quotas: how many pictures of each world; with a source, at most so many of each domain that it names.
            seed: of the worlds.
            source: MMInstruct's source list or captions, JSON or JSON lines, instead of worlds.
            media_root: the folder of its pictures; left out, the file's own.
            domain: whose seed questions the source's pictures are asked, where their rows name none.
            seeds: a folder of DOMAIN.yaml (and DOMAIN.zh.yaml) of one's own.
            min_support: questions are left out whose answer has a smaller share of its words in the caption.
            min_closeness: questions are left out that are further from all seed questions of the domain.
        """

        kinds: list[Kind] = Field(default=["caption", "judgement", "choice", "long", "short", "rounds"], min_length=1)
        languages: list[Language] = Field(default=["en"], min_length=1)
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
            self._require(self.options.domain)
            seen: Counter[str] = Counter()
            for number, (where, row) in enumerate(each_value(self.options.source)):
                own = row.get("domain") if isinstance(row, dict) else None
                domain = own if isinstance(own, str) and own else self.options.domain
                seen[domain] += 1
                if seen[domain] <= self.options.quotas.get(domain, seen[domain]):
                    yield Picture(f"{self.options.source.stem}/{number}", domain, number, row, where)
            return
        for name in self.options.quotas:
            if name not in WORLDS:
                raise DataError(f"no world draws pictures of the domain {name!r}.{did_you_mean(name, WORLDS)}")
            self._require(name)
        turns = [
            [((number + 0.5) / quota, name, number) for number in range(quota)]
            for name, quota in sorted(self.options.quotas.items())
        ]
        for _, name, number in heapq.merge(*turns):
            yield Picture(f"{name}/{self.options.seed}/{number}", name, number)

    def where(self, item: Picture) -> str:
        return item.where

    def count(self) -> int | None:
        return sum(self.options.quotas.values()) if self.options.source is None else None

    def _require(self, name: str) -> None:
        for language in self.options.languages:
            self._domain(name, language)

    def _domain(self, name: str, language: Language) -> Domain:
        folder = self.options.seeds or SEEDS
        ending = ".yaml" if language == "en" else f".{language}.yaml"
        if not (folder / f"{name}{ending}").is_file():
            names = {file.name.removesuffix(ending) for file in folder.glob(f"*{ending}")}
            known = did_you_mean(name, [one for one in names if "." not in one])
            raise DataError(f"{folder} has no seed questions {name}{ending} of the domain {name!r}.{known}")
        return load_domain(folder / f"{name}{ending}")

    def make(self, item: Picture, job: Job) -> Iterator[Conversation]:
        languages = list(dict.fromkeys(self.options.languages))
        domains = {language: self._domain(item.domain, language) for language in languages}
        captions: dict[Language, str] = {}
        if self.options.source is None:
            drawn = WORLDS[item.domain](self.options.seed, item.number, languages)
            known = drawn.known
            media = job.save(drawn.picture, item.id)
        else:
            row = _row(item)
            file = (self.options.media_root or self.options.source.parent) / row.image_path
            media = job.copy(file, f"{item.id}{file.suffix}")
            known, captions = _known(row, item.id, languages)
        seen = {one: Seen(domains[one].summary, known[one], one) for one in languages if one not in captions}
        described = dict(zip(seen, job.ask_all(((CAPTION, facts) for facts in seen.values()), [media]), strict=True))
        captions |= {language: answer.value for language, answer in described.items()}
        facts_of: dict[tuple[Language, Type], Asked] = {}
        for language in languages:
            for kind in self.options.kinds:
                if kind != "caption":
                    spare = domains[language].of(kind)
                    shown = job.random.sample(list(spare), min(SHOWN, len(spare)))
                    about, facts = domains[language].summary, known[language]
                    facts_of[language, kind] = Asked(
                        about, captions[language], facts.knowledge, shown, spare, facts, language
                    )
        replies = job.ask_all((TYPES[kind], facts) for (_, kind), facts in facts_of.items())
        answer_of = dict(zip(facts_of, replies, strict=True))
        for language in languages:
            looked = [described[language]] if language in described else []
            for kind in self.options.kinds:
                if kind == "caption":
                    asked = job.random.choice(prompt_file(language).requests)
                    told: list[Told] = [([(asked, Question("", captions[language]))], {})]
                    calls: list[Answer[Any]] = [*looked]
                else:
                    answer = answer_of[language, kind]
                    told = self._told(answer.value, kind, facts_of[language, kind], job)
                    calls = [*looked, answer]
                for number, (turns, scores) in enumerate(told):
                    where = item.id if language == "en" else f"{item.id}/{language}"
                    yield _conversation(
                        f"mminstruct/{where}/{kind}/{number}",
                        turns,
                        media,
                        kind,
                        scores,
                        {"domain": item.domain, "language": language}
                        | ({} if kind == "caption" else {"caption": captions[language]}),
                        language,
                        job.provenance([item.id], *calls),
                    )

    def _told(self, asked: list[Question], kind: Type, facts: Asked, job: Job) -> list[Told]:
        """Conversations of the questions that no rule leaves out: their turns and their scores."""
        endings = prompt_file(facts.language).types[kind].endings
        kept = self._kept(asked, kind, facts, job)
        if kind == "rounds":
            if not kept:
                return []
            turns = [(question.text, question) for question, _ in kept]
            turns[0] = (f"{turns[0][0]}\n{job.random.choice(endings)}", turns[0][1])
            least = min(scores["support"] for _, scores in kept)
            return [(turns, {"closeness": kept[0][1]["closeness"], "support": least})]
        told: list[Told] = []
        for question, scores in kept:
            placed = _placed(question, job.random)
            lines = [placed.text, *([with_letters(placed.options)] if placed.options else [])]
            lines.append(job.random.choice(endings))
            told.append(([("\n".join(lines), placed)], scores))
        return told

    def _kept(
        self, asked: list[Question], kind: Type, facts: Asked, job: Job
    ) -> list[tuple[Question, dict[str, float]]]:
        """The questions that no rule leaves out, with their scores.

        Of the rounds of a conversation those before the first that a rule leaves out, since later ones build on it;
        only the first must be close to a seed.
        """
        told = " ".join([facts.caption, facts.knowledge, *facts.known.text])
        evidence, figures = content_words(told), numbers(told)
        kept: list[tuple[Question, dict[str, float]]] = []
        for question in asked:
            claim = question.text if question.answer == "Yes" else "" if question.answer == "No" else question.answer
            scores = {"closeness": round(closeness(question.text, list(facts.spare)), 3)}
            if claim:  # what a No denies need not be in the caption
                scores["support"] = round(support(claim, evidence), 3)
            rule = None
            if facts.speech.told.search(f"{question.text} {question.answer}"):
                rule = "speaks of the description"
            elif kind != "judgement" and numbers(claim) - figures:  # a Yes may compare with any number
                rule = "a number is not in the caption"
            elif scores.get("support", 1.0) < self.options.min_support:
                rule = "too few words are in the caption"
            elif scores["closeness"] < self.options.min_closeness and not (kind == "rounds" and kept):
                rule = "too far from the seed questions"
            if rule is None:
                kept.append((question, scores))
                continue
            job.drop(rule)
            if kind == "rounds":
                break
        if kind == "rounds" and len(kept) < 2:
            job.drop("fewer than two rounds are left")
            return []
        return _as_many_yes_as_no(kept, job) if kind == "judgement" else kept


Told = tuple[list[tuple[str, Question]], dict[str, float]]


def _conversation(
    id: str,
    turns: Sequence[tuple[str, Question]],
    media: Media,
    kind: Kind,
    scores: dict[str, float],
    extra: dict[str, Any],
    language: Language,
    provenance: Provenance,
) -> Conversation:
    """One of one picture, which stands in front of the first question."""
    messages: list[Message] = []
    for asked, question in turns:
        said = question.answer
        if question.options:
            said = LETTERS[question.options.index(said)]
        elif kind == "judgement":
            said = SPEECH[language].yes if said == "Yes" else SPEECH[language].no
        messages += [
            message("user", asked) if messages else message("user", image(), text(f"\n{asked}")),
            message("assistant", said),
        ]
    return Conversation(
        id=id,
        messages=messages,
        media=[media],
        options=list(turns[0][1].options) or None,
        answers=[messages[-1].text] if kind in ("judgement", "choice", "short") else None,
        task=f"mminstruct+{kind}",
        scores=scores or None,
        extra=extra,
        provenance=provenance,
    )


def _known(row: Row, name: str, languages: Sequence[Language]) -> tuple[dict[Language, Known], dict[Language, str]]:
    """What a row says of its picture, and the caption that it has, in the language that this is written in."""
    lines = [line for line in row.text if line.strip()]
    caption = row.gpt4v_caption_interface.strip()
    written: Language = "zh" if _CHINESE.search(caption) else "en"
    captions = {written: caption} if caption and written in languages else {}
    known = {
        one: _LINES[one](lines, row.bing_tag, captions.get(one, ""), random.Random(f"mminstruct/{name}"))
        for one in languages
    }
    return known, captions


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
    return checked(Row, item.row, item.where)


BUILDER = MMInstruct
