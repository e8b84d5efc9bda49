"""VideoSAVi (arXiv 2412.00624): a model's own better and worse answers on clips, for preference training.

    frames ──▶ questions ─┬─critique───▶ answer (rejected) ─▶ critique with evidence ─▶ revision (chosen)
                          └─candidates─▶ several answers ─▶ a score each ─▶ the best and the worst
    pair ──filters: evidence, difference, length, the model stands by it──▶ record with `preference`, or a dropped count

`critique` is what versions 2 and 3 of the paper do, `candidates` what version 1 does. Neither code nor data of it are
published; prompts and filters are ours. Without a model the templates answer: of worlds by what they know, with wrong
answers that are plausible, of files of one's own by what can be measured of their frames.
"""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, Field

from mminstruct.building import Builder, Job
from mminstruct.building.job import Answer
from mminstruct.building.prompt import Prompt, Told, dialogue
from mminstruct.building.replies import json_reply, require_different, strict_schema
from mminstruct.building.request import Parameters
from mminstruct.config import Config, load_yaml, validate
from mminstruct.conversation import Conversation, Media, Message, Preference, VideoPart, message, text
from mminstruct.data_builders.worlds import clip_facts, clips
from mminstruct.data_builders.worlds.known import Known, varied
from mminstruct.data_builders.worlds.measured import clip_known
from mminstruct.data_builders.worlds.own_files import OwnFile, own_files, shown, watch
from mminstruct.errors import ReplyError

PROMPTS = Path(__file__).parent / "prompts" / "videosavi.yaml"

Type = Literal["spatial", "temporal"]
R = TypeVar("R")
UNSURE = "That cannot be told from what is seen."


class QuestionSystems(Config):
    spatial: str
    temporal: str


class PromptFile(Config):
    questions: QuestionSystems
    answer: str
    critique: str
    revision: str
    candidates: str
    score: str
    check: str


@functools.cache
def prompt_file() -> PromptFile:
    return validate(PromptFile, load_yaml(PROMPTS), where=str(PROMPTS))


@dataclass(frozen=True)
class Looked:
    """A clip's frames, what is asked about them, and what was said so far.

    Attributes:
        times: of the frames, in seconds.
        known: what the templates may say.
        count: how many questions or answers are wanted.
        second: the other answer, where two are compared.
    """

    times: tuple[float, ...]
    known: tuple[Known, ...]
    type: Type = "spatial"
    count: int = 1
    question: str = ""
    answer: str = ""
    second: str = ""
    critique: str = ""

    def right(self) -> Known:
        return next(one for one in self.known if one.question == self.question)


class Questions(BaseModel):
    questions: list[str] = Field(min_length=1)


class Answers(BaseModel):
    answers: list[str] = Field(min_length=2)


class Critique(BaseModel):
    critique: str
    evidence: list[str] = Field(default_factory=list)


class Score(BaseModel):
    score: int = Field(ge=1, le=10)


class Better(BaseModel):
    better: Literal[1, 2]


class QuestionsPrompt(Prompt[Looked, list[str]]):
    name = "videosavi/questions"
    parameters: ClassVar[Parameters] = Parameters(temperature=0.8, max_tokens=1024)

    def messages(self, facts: Looked) -> list[Message]:
        system: str = getattr(prompt_file().questions, facts.type)
        return _asked(system.format(count=facts.count), facts, "")

    def schema(self, facts: Looked) -> dict[str, Any]:
        return _so_many(Questions, "questions", facts.count)

    def parse(self, reply: str, facts: Looked) -> list[str]:
        found = [question.strip() for question in json_reply(reply, Questions).questions if question.strip()]
        if not found:
            raise ReplyError("all questions are empty")
        require_different(found)
        return found[: facts.count]

    def template(self, facts: Looked, rng: random.Random) -> str:
        fitting = [one for one in facts.known if one.kind == facts.type]
        chosen = varied(fitting, lambda one: one.question, rng, facts.count)
        return json.dumps({"questions": [one.question for one in chosen]})


class AnswerPrompt(Prompt[Looked, str]):
    """The model's first answer; the templates' is often wrong."""

    name = "videosavi/answer"
    parameters: ClassVar[Parameters] = Parameters(temperature=0.7, max_tokens=256)

    def messages(self, facts: Looked) -> list[Message]:
        return _asked(prompt_file().answer, facts, f"Question: {facts.question}")

    def parse(self, reply: str, facts: Looked) -> str:
        return _text(reply)

    def template(self, facts: Looked, rng: random.Random) -> str:
        known = facts.right()
        return known.wrong if rng.random() < 0.75 else known.answer


class CritiquePrompt(Prompt[Looked, Critique]):
    name = "videosavi/critique"
    parameters: ClassVar[Parameters] = Parameters(temperature=0.2, max_tokens=512)
    reply_schema: ClassVar[dict[str, Any] | None] = strict_schema(Critique)

    def messages(self, facts: Looked) -> list[Message]:
        return _asked(prompt_file().critique, facts, f"Question: {facts.question}\nAnswer: {facts.answer}")

    def parse(self, reply: str, facts: Looked) -> Critique:
        return json_reply(reply, Critique)

    def template(self, facts: Looked, rng: random.Random) -> str:
        known = facts.right()
        if facts.answer == known.answer:
            return json.dumps({"critique": "The answer agrees with what is seen.", "evidence": []})
        said = facts.answer.rstrip(".")
        return json.dumps({"critique": f'The answer says "{said}", which is not so.', "evidence": [known.evidence]})


class RevisionPrompt(Prompt[Looked, str]):
    name = "videosavi/revision"
    parameters: ClassVar[Parameters] = Parameters(temperature=0.2, max_tokens=256)

    def messages(self, facts: Looked) -> list[Message]:
        said = f"Question: {facts.question}\nAnswer: {facts.answer}\nCritique: {facts.critique}"
        return _asked(prompt_file().revision, facts, said)

    def parse(self, reply: str, facts: Looked) -> str:
        return _text(reply)

    def template(self, facts: Looked, rng: random.Random) -> str:
        return facts.right().answer


class CandidatesPrompt(Prompt[Looked, list[str]]):
    name = "videosavi/candidates"
    parameters: ClassVar[Parameters] = Parameters(temperature=0.9, max_tokens=1024)

    def messages(self, facts: Looked) -> list[Message]:
        system = prompt_file().candidates.format(count=facts.count)
        return _asked(system, facts, f"Question: {facts.question}")

    def schema(self, facts: Looked) -> dict[str, Any]:
        return _so_many(Answers, "answers", facts.count)

    def parse(self, reply: str, facts: Looked) -> list[str]:
        found = [_text(answer) for answer in json_reply(reply, Answers).answers]
        if len({normal(answer) for answer in found}) < len(found):
            raise ReplyError("two answers are the same; let each say something else")
        if len(found) != facts.count:
            raise ReplyError(f"there are {len(found)} answers; write {facts.count}")
        return found

    def template(self, facts: Looked, rng: random.Random) -> str:
        known = facts.right()
        answers = [known.answer, known.wrong, UNSURE, f"This is a guess: {known.wrong}"]
        answers += [f"{UNSURE[:-1]}, or not by viewer {number}." for number in range(4, facts.count)]
        del answers[facts.count :]
        rng.shuffle(answers)
        return json.dumps({"answers": answers})


class ScorePrompt(Prompt[Looked, int]):
    """How well an answer agrees with the clip, 1 to 10."""

    name = "videosavi/score"
    parameters: ClassVar[Parameters] = Parameters(temperature=0.0, max_tokens=64)
    reply_schema: ClassVar[dict[str, Any] | None] = strict_schema(Score)

    def messages(self, facts: Looked) -> list[Message]:
        return _asked(prompt_file().score, facts, f"Question: {facts.question}\nAnswer: {facts.answer}")

    def parse(self, reply: str, facts: Looked) -> int:
        return json_reply(reply, Score).score

    def template(self, facts: Looked, rng: random.Random) -> str:
        known = facts.right()
        if facts.answer == known.answer:
            return json.dumps({"score": rng.randint(8, 10)})
        return json.dumps({"score": rng.randint(1, 2) if facts.answer == known.wrong else rng.randint(3, 6)})


class CheckPrompt(Prompt[Looked, int]):
    """Which of two answers is better, 1 or 2."""

    name = "videosavi/check"
    parameters: ClassVar[Parameters] = Parameters(temperature=0.0, max_tokens=64)
    reply_schema: ClassVar[dict[str, Any] | None] = strict_schema(Better)

    def messages(self, facts: Looked) -> list[Message]:
        said = f"Question: {facts.question}\nAnswer 1: {facts.answer}\nAnswer 2: {facts.second}"
        return _asked(prompt_file().check, facts, said)

    def parse(self, reply: str, facts: Looked) -> int:
        return json_reply(reply, Better).better

    def template(self, facts: Looked, rng: random.Random) -> str:
        return json.dumps({"better": 2 if facts.second == facts.right().answer else 1})


@dataclass(frozen=True)
class Pair:
    """A better and a worse answer, and what the record keeps of how they came about."""

    chosen: str
    rejected: str
    notes: dict[str, Any]
    scores: dict[str, float] | None


@dataclass
class _Line:
    """One question on its way: what was replied so far, and its pair, where there is one and no rule drops it."""

    about: Looked
    answers: list[Answer[Any]]
    pair: Pair | None = None


@dataclass(frozen=True)
class _Talk:
    """Asks one stage of all questions of a clip at once, so a batch takes as many rounds as there are stages."""

    job: Job
    frames: list[Media]

    def ask(self, prompt: Prompt[Looked, R], facts: list[tuple[_Line, Looked]]) -> list[R]:
        """The replies, each noted with its question too."""
        found = self.job.ask_all(((prompt, about) for _, about in facts), self.frames)
        for (line, _), answer in zip(facts, found, strict=True):
            line.answers.append(answer)
        return [answer.value for answer in found]


@dataclass(frozen=True)
class Item:
    """A clip: of the world, or a file."""

    id: str
    source: clips.Clip | OwnFile


class VideoSavi(Builder[Item]):
    name = "videosavi"
    version = "2"
    summary = (
        "VideoSAVi: preference pairs of a vision model's own answers on clips, by critique or by scored candidates."
    )
    licence = "Apache-2.0"
    asks = True

    class Options(Config):
        """What is built.

        Args:
            variant: the paper's versions 2 and 3 (critique), or its version 1 (candidates).
            clips: how many of the world, where no folder is given.
            seed: of the world.
            videos: a folder of clips of one's own instead.
            frames: of a clip that the model sees, at the middles of as many stretches; the paper has 32.
            frame_side: pixels that no side of such a frame exceeds.
            questions: of each type and clip; the paper has 6 pairs a clip in all.
            types: of questions.
            candidates: answers to choose the best and the worst from.
            margin: points, of ten, that the best is better by at least.
            length_ratio: how many times as long as the other the longer answer may be.
            consistency: whether the model, shown both answers in both orders, has to prefer the chosen one each time.
            iteration: a note in each record, for who trains and builds again with the trained model.
        """

        variant: Literal["critique", "candidates"] = "critique"
        clips: int = Field(default=100, ge=1)
        seed: int = 0
        videos: Path | None = None
        frames: int = Field(default=8, ge=1, le=128)
        frame_side: int = Field(default=448, ge=16)
        questions: int = Field(default=3, ge=1, le=20)
        types: list[Type] = Field(default=["spatial", "temporal"], min_length=1)
        candidates: int = Field(default=4, ge=2, le=16)
        margin: int = Field(default=2, ge=1, le=9)
        length_ratio: float = Field(default=3.0, ge=1)
        consistency: bool = True
        iteration: int = Field(default=1, ge=1)

    options: Options

    def items(self) -> Iterator[Item]:
        if self.options.videos is None:
            for number in range(self.options.clips):
                made = clips.clip(self.options.seed, number)
                yield Item(made.id, made)
            return
        yield from (Item(one.id, one) for one in own_files(self.options.videos) if one.kind == "video")

    def count(self) -> int | None:
        return self.options.clips if self.options.videos is None else None

    def make(self, item: Item, job: Job) -> Iterator[Conversation]:
        watched = watch(item.source, job, self.options.frames, self.options.frame_side)
        if isinstance(item.source, clips.Clip):
            known = clip_facts.known(item.source, random.Random(item.id))
        else:
            known = clip_known(watched.pictures, watched.times)
        talk = _Talk(job, watched.frames)
        looked = Looked(watched.times, tuple(known), count=self.options.questions)
        asking = [replace(looked, type=kind) for kind in self.options.types]
        asked = job.ask_all(((QuestionsPrompt(), one) for one in asking), watched.frames)
        lines = [
            _Line(replace(one, question=question), [questions])
            for one, questions in zip(asking, asked, strict=True)
            for question in questions.value
        ]
        (self._revise if self.options.variant == "critique" else self._score)(lines, talk)
        self._filter(lines, talk)
        for number, line in enumerate(lines, start=1):
            if line.pair is None:
                continue
            yield Conversation(
                id=f"videosavi/{item.id}/{number}",
                messages=[message("user", VideoPart(index=0), f"\n{line.about.question}")],
                preference=Preference(
                    chosen=[message("assistant", line.pair.chosen)], rejected=[message("assistant", line.pair.rejected)]
                ),
                media=[watched.clip],
                task=f"videosavi+{line.about.type}",
                scores=line.pair.scores,
                extra={"question_type": line.about.type, "iteration": self.options.iteration, **line.pair.notes},
                provenance=job.provenance([item.id], *line.answers),
            )

    def _revise(self, lines: list[_Line], talk: _Talk) -> None:
        """Rejected: the first answer. Chosen: the one after a critique with evidence."""
        firsts = talk.ask(AnswerPrompt(), [(line, line.about) for line in lines])
        talked = [(line, replace(line.about, answer=first)) for line, first in zip(lines, firsts, strict=True)]
        critiques = talk.ask(CritiquePrompt(), talked)
        told: list[tuple[_Line, Looked]] = []
        notes: list[dict[str, Any]] = []
        for (line, about), critique in zip(talked, critiques, strict=True):
            said = critique.critique.strip()
            evidence = [one.strip() for one in critique.evidence if one.strip()]
            if not evidence or not said:
                talk.job.drop("the critique names no evidence")
                continue
            told.append((line, replace(about, critique=" ".join([said, *evidence]))))
            notes.append({"critique": said, "evidence": evidence})
        revisions = talk.ask(RevisionPrompt(), told)
        for (line, about), revision, note in zip(told, revisions, notes, strict=True):
            line.pair = Pair(revision, about.answer, note, None)

    def _score(self, lines: list[_Line], talk: _Talk) -> None:
        """The best and the worst of several answers, by a score each."""
        wanted = [(line, replace(line.about, count=self.options.candidates)) for line in lines]
        candidates = talk.ask(CandidatesPrompt(), wanted)
        judged = [
            (line, replace(line.about, answer=one))
            for line, answers in zip(lines, candidates, strict=True)
            for one in answers
        ]
        scores = iter(talk.ask(ScorePrompt(), judged))
        for line, answers in zip(lines, candidates, strict=True):
            own = [next(scores) for _ in answers]
            ranked = sorted(range(len(own)), key=lambda number, own=own: (own[number], -number))  # type: ignore[misc]
            worst, best = own[ranked[0]], own[ranked[-1]]
            if best - worst < self.options.margin:
                talk.job.drop("the scores are too near to each other")
                continue
            noted = {"chosen": float(best), "rejected": float(worst)}
            line.pair = Pair(answers[ranked[-1]], answers[ranked[0]], {}, noted)

    def _filter(self, lines: list[_Line], talk: _Talk) -> None:
        """Take away the pairs that a rule drops."""
        for line in lines:
            rule = None if line.pair is None else self._too_alike(line.pair)
            if rule is not None:
                talk.job.drop(rule)
                line.pair = None
        if not self.options.consistency:
            return
        both = [
            (line, replace(line.about, answer=first, second=second))
            for line in lines
            if line.pair is not None
            for first, second in (
                (line.pair.chosen, line.pair.rejected),
                (line.pair.rejected, line.pair.chosen),
            )
        ]
        found = talk.ask(CheckPrompt(), both)
        for (line, _), forward, backward in zip(both[::2], found[::2], found[1::2], strict=True):
            if (forward, backward) != (1, 2):
                talk.job.drop("the model does not stand by the chosen answer")
                line.pair = None

    def _too_alike(self, pair: Pair) -> str | None:
        """The rule that drops a pair without asking."""
        if normal(pair.chosen) == normal(pair.rejected):
            return "the chosen answer is the rejected one"
        lengths = sorted(len(answer.split()) for answer in (pair.chosen, pair.rejected))
        if lengths[1] > self.options.length_ratio * lengths[0]:
            return "one answer is much longer than the other"
        return None


def normal(answer: str) -> str:
    """Capital letters, punctuation and spaces aside."""
    return " ".join(re.findall(r"\w+", answer.casefold()))


def _asked(system: str, facts: Looked, said: str) -> list[Message]:
    return dialogue(Told(system=system), *shown(facts.times), *([text(said)] if said else []))


def _so_many(model: type[BaseModel], key: str, count: int) -> dict[str, Any]:
    """The schema of a list of `count` texts."""
    found = strict_schema(model)
    found["properties"][key] |= {"minItems": count, "maxItems": count}
    return found


def _text(reply: str) -> str:
    if not normal(reply):
        raise ReplyError("the answer is empty")
    return reply.strip()


BUILDER = VideoSavi
