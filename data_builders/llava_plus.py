"""Conversations in which an assistant calls a tool, made in LLaVA-Plus' four steps (arXiv 2311.05437, section 3).

    facts ──question──▶ question ──arguments──▶ arguments ──the tool, run on the picture──▶ output ──answer──▶ answer

    user: question   assistant: thoughts, actions [call]   user: "TOOL output: {...}"   assistant: thoughts, [], answer

The first, second and last step ask a language model, the third computes: shapes are found in the pixels of procedural
scenes, and the text of slides is read by an engine that knows it. Tools for pictures of one's own come from a Python
file. Messages hold the text that is trained on (`mminstruct.formats.llava_plus`); `data convert --to llava-plus`
gives the published JSON. Answers that name the tool are left out, as in the original; the picture stands in the first
turn alone, where the original has it a second time in the turn of the tool's output.

Without a model the prompts' templates answer out of the question and the tool's output alone.
"""

from __future__ import annotations

import functools
import json
import random
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from PIL import Image
from pydantic import Field

from mminstruct.building import BadItem, Builder, Job
from mminstruct.building.prompt import Example, Prompt, Told, dialogue
from mminstruct.building.replies import json_reply, strict_schema
from mminstruct.building.request import Parameters
from mminstruct.building.rows import rows
from mminstruct.config import Config, load_yaml, validate
from mminstruct.conversation import Conversation, Message, image, message
from mminstruct.data_builders.llava import Box, Facts, Instance
from mminstruct.data_builders.worlds import tool_questions
from mminstruct.data_builders.worlds.scenes import Scene, scene
from mminstruct.data_builders.worlds.slides import Slide, slide
from mminstruct.errors import ConfigError, ReplyError
from mminstruct.evidence.shape_tools import KnownText, ShapeDetector, ShapeSegmenter
from mminstruct.evidence.tool import TextReader, Tool, call, tools_of
from mminstruct.formats.llava_plus import ToolTurn, outputs, serialise
from mminstruct.media import open_image

PROMPTS = Path(__file__).parent / "prompts" / "llava-plus.yaml"

ToolName = Literal["shape_detector", "shape_segmenter", "text_reader"]


class Shot(Config):
    """One example of all three steps."""

    captions: list[str]
    objects: list[tuple[str, Box]]
    question: str
    arguments: dict[str, Any]
    output: dict[str, Any]
    answer: str


class PromptFile(Config):
    facts: str
    before: str
    question: str
    arguments: str
    answer: str
    answer_facts: str
    thoughts: list[str]
    waiting: str
    concluding: str
    examples: dict[str, list[Shot]]


@functools.cache
def prompt_file() -> PromptFile:
    return validate(PromptFile, load_yaml(PROMPTS), where=str(PROMPTS))


@dataclass(frozen=True)
class Asked:
    """What is known so far: of the picture, and of the steps behind."""

    tool: Tool[Any]
    captions: list[str]
    objects: list[tuple[str, Box]]
    before: tuple[str, ...] = ()  # questions that were asked about the picture
    question: str = ""
    arguments: dict[str, Any] | None = None
    output: dict[str, Any] | None = None


class StepPrompt(Prompt[Asked, Any]):
    """One of the three steps; `told` puts the same step of the tool's examples in front."""

    parameters: ClassVar[Parameters] = Parameters(temperature=0.9, top_p=0.95, max_tokens=512)

    step: ClassVar[Literal["question", "arguments", "answer"]]

    def messages(self, facts: Asked) -> list[Message]:
        file, tool = prompt_file(), facts.tool
        system = {"question": file.question, "arguments": file.arguments, "answer": file.answer}[self.step]
        examples = []
        for shot in file.examples.get(tool.name, []):
            shown = Asked(tool, shot.captions, shot.objects, (), shot.question, shot.arguments, shot.output)
            examples.append(Example(question=self.asked(shown), reply=self.reply(shot)))
        return dialogue(Told(system=system.format(does=tool.does), examples=examples), self.asked(facts))

    @abstractmethod
    def asked(self, facts: Asked) -> str:
        """What stands in the last turn."""

    @abstractmethod
    def reply(self, shot: Shot) -> str:
        """An example's reply."""


class QuestionPrompt(StepPrompt):
    name = "llava-plus/question"
    step = "question"

    def asked(self, facts: Asked) -> str:
        lines = [f"{name}: [{', '.join(f'{edge:.2f}' for edge in box)}]" for name, box in facts.objects]
        told = prompt_file().facts.format(captions="\n".join(facts.captions), objects="\n".join(lines) or "(none)")
        return told + (prompt_file().before.format(before="\n".join(facts.before)) if facts.before else "")

    def reply(self, shot: Shot) -> str:
        return shot.question

    def parse(self, reply: str, facts: Asked) -> str:
        question = _sentence(reply)
        if len(question.split()) < 3 or "\n" in question:
            raise ReplyError("the question is shorter than three words, or there is more than one line")
        if names_tool(question, facts.tool.name):
            raise ReplyError("the question names the tool")
        if question.casefold() in (one.casefold() for one in facts.before):
            raise ReplyError("the question was asked already")
        return question

    def template(self, facts: Asked, rng: random.Random) -> str:
        return tool_questions.ask(facts.tool.name, facts.objects, rng, facts.before)


class ArgumentsPrompt(StepPrompt):
    """The original has the bare argument here (`girl . cart`); JSON does for tools with other arguments, too."""

    name = "llava-plus/arguments"
    step = "arguments"

    def asked(self, facts: Asked) -> str:
        return facts.question

    def reply(self, shot: Shot) -> str:
        return json.dumps(shot.arguments, ensure_ascii=False)

    def schema(self, facts: Asked) -> dict[str, Any]:
        return strict_schema(facts.tool.arguments)

    def parse(self, reply: str, facts: Asked) -> Config:
        return json_reply(reply, facts.tool.arguments)

    def template(self, facts: Asked, rng: random.Random) -> str:
        return json.dumps(tool_questions.arguments(facts.tool.name, facts.question), ensure_ascii=False)


class AnswerPrompt(StepPrompt):
    name = "llava-plus/answer"
    step = "answer"

    def asked(self, facts: Asked) -> str:
        return prompt_file().answer_facts.format(
            captions="\n".join(facts.captions),
            arguments=json.dumps(facts.arguments, ensure_ascii=False),
            output=json.dumps(facts.output, ensure_ascii=False),
            question=facts.question,
        )

    def reply(self, shot: Shot) -> str:
        return shot.answer

    def parse(self, reply: str, facts: Asked) -> str:
        return _sentence(reply)

    def template(self, facts: Asked, rng: random.Random) -> str:
        return tool_questions.answer(facts.tool.name, facts.question, facts.output or {}, rng)


QUESTION, ARGUMENTS, ANSWER = QuestionPrompt(), ArgumentsPrompt(), AnswerPrompt()


def _sentence(reply: str) -> str:
    """A reply that is a text. Raises `ReplyError` where it is empty or would place a picture or a part of an answer."""
    told = reply.strip()
    marker = next((mark for mark in ("<image>", '"thoughts🤔"', '"actions🚀"', '"value👉"') if mark in told), None)
    if not told or marker:
        raise ReplyError(f"the reply holds {marker}, which has a meaning here" if marker else "the reply is empty")
    return told


def names_tool(told: str, tool: str) -> bool:
    """Whether a text names a tool, underscores and capital letters aside."""
    return tool.replace("_", " ").casefold() in told.replace("_", " ").casefold()


@dataclass(frozen=True)
class Picture:
    """A picture with its facts, and its file or the world that it is drawn from."""

    id: str
    facts: Facts
    source: Path | Scene | Slide
    where: str = ""


class LlavaPlus(Builder[Picture]):
    name = "llava-plus"
    version = "2"
    summary = "Conversations with a call of a tool, its real output, and the answer that follows from it."
    licence = "Apache-2.0"
    asks = True

    class Options(Config):
        """What is built.

        Args:
            pictures: how many, where no file is given: scenes and slides in turn, as the tools need them.
            questions: of each picture.
            tools: which tools of the worlds are called.
            seed: of the scenes and slides.
            facts: JSON lines of captions and boxes instead, as `llava` takes them.
            media_root: the folder of that file's pictures; left out, the file's own.
            own_tools: the Python file whose `TOOLS` is a list of tools for these pictures.
        """

        pictures: int = Field(default=100, ge=1)
        questions: int = Field(default=2, ge=1, le=6)
        tools: list[ToolName] = Field(default=["shape_detector", "shape_segmenter", "text_reader"], min_length=1)
        seed: int = 0
        facts: Path | None = None
        media_root: Path | None = None
        own_tools: Path | None = None

    options: Options

    def items(self) -> Iterator[Picture | BadItem]:
        if self.options.facts is not None:
            root = self.options.media_root or self.options.facts.parent
            yield from rows(
                self.options.facts, Facts, lambda where, facts: Picture(facts.id, facts, root / facts.image, where)
            )
            return
        worlds: list[Any] = [slide] if "text_reader" in self.options.tools else []
        worlds[:0] = [scene] if set(self.options.tools) - {"text_reader"} else []
        for number in range(self.options.pictures):
            drawn = worlds[number % len(worlds)](self.options.seed, number // len(worlds))
            objects = drawn.boxes() if isinstance(drawn, Scene) else drawn.lines()
            instances = [Instance(category=name, bbox=box) for name, box in objects]
            facts = Facts(id=drawn.id, image=f"{drawn.id}.png", captions=drawn.captions(), instances=instances)
            yield Picture(drawn.id, facts, drawn)

    def where(self, item: Picture) -> str:
        return item.where

    def count(self) -> int | None:
        return self.options.pictures if self.options.facts is None else None

    def make(self, item: Picture, job: Job) -> Iterator[Conversation]:
        tools = self._tools(item)
        if isinstance(item.source, Path):
            picture = open_image(item.source)
            media = job.copy(item.source, item.facts.image, picture)
        else:
            picture = item.source.draw()
            media = job.save(picture, item.id)
        asked: tuple[str, ...] = ()
        for number in range(self.options.questions):
            found = Asked(job.random.choice(tools), item.facts.captions, item.facts.boxes(), asked)
            question = job.ask(QUESTION, found)
            asked = (*asked, question.value)
            found = replace(found, question=question.value)
            arguments = job.ask(ARGUMENTS, found)
            found = _called(found, picture, arguments.value)
            answer = job.ask(ANSWER, found)
            if names_tool(answer.value, found.tool.name):
                job.drop("the answer names the tool")
                continue
            yield Conversation(
                id=f"llava-plus/{item.id}/{number}",
                messages=_messages(found, answer.value, job.random),
                media=[media],
                task=f"llava-plus+{found.tool.name}",
                extra={
                    "image_id": item.id,
                    "data_source": item.id.partition("/")[0],
                    "tool": {"name": found.tool.name, "version": found.tool.version},
                    "facts": item.facts.model_dump(mode="json", exclude={"id", "image"}),
                },
                provenance=job.provenance([item.id], question, arguments, answer),
            )

    def _tools(self, item: Picture) -> list[Tool[Any]]:
        if isinstance(item.source, Slide):
            return [TextReader(KnownText(item.source.lines()))]
        if isinstance(item.source, Scene):
            known: list[Tool[Any]] = [ShapeDetector(), ShapeSegmenter()]
            return [tool for tool in known if tool.name in self.options.tools]
        return list(self._own_tools)

    @functools.cached_property
    def _own_tools(self) -> Sequence[Tool[Any]]:
        path = self.options.own_tools
        if path is None:
            raise ConfigError("pictures of one's own need tools of one's own; give a Python file as own_tools")
        return tools_of(str(path))


def _called(found: Asked, picture: Image.Image, arguments: Config) -> Asked:
    """What is known once the tool has been called."""
    given = arguments.model_dump(mode="json", exclude_unset=True)
    return replace(found, arguments=given, output=call(found.tool, picture, arguments))


def _messages(found: Asked, answer: str, chance: random.Random) -> list[Message]:
    """The four turns."""
    file, tool = prompt_file(), found.tool.name
    action = {"API_name": tool, "API_params": found.arguments}
    calling = ToolTurn(chance.choice(file.thoughts).format(tool=tool), [action], file.waiting.format(tool=tool))
    concluding = ToolTurn(file.concluding.format(tool=tool), [], answer)
    first = chance.random() < 0.5  # before or behind the question
    return [
        message("user", image(), f"\n{found.question}") if first else message("user", f"{found.question}\n", image()),
        message("assistant", serialise(calling)),
        message("user", outputs([(tool, found.output)], found.question)),
        message("assistant", serialise(concluding)),
    ]


BUILDER = LlavaPlus
