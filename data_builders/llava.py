"""LLaVA's three kinds of conversation, written by a language model of captions and boxes (arXiv 2304.08485, section 3).

    picture's facts (captions, boxes) ──prompts/llava.yaml──▶ reply ──▶ conversation | detail | reasoning

The facts are those of procedural scenes, or of a file in the form of LLaVA's own `caps_boxes` files: JSON lines of
`{"id", "image", "captions": [...], "instances": [{"category", "bbox": [left, top, right, bottom]}]}` with boxes in
shares of the picture. Every conversation keeps the facts that it was made of in `extra`.

Without a model the prompts' templates answer: they compute each statement from the boxes, so all of them are true.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from mminstruct.building import BadItem, Builder, Job
from mminstruct.building.prompt import Example, Prompt, Told, dialogue
from mminstruct.building.replies import pair, pairs
from mminstruct.building.request import Parameters
from mminstruct.building.rows import rows
from mminstruct.config import Config, load_yaml, validate
from mminstruct.conversation import Conversation, Message, Part, Record, image, text
from mminstruct.data_builders.worlds.scenes import NUMBERS, Scene, listed, scene
from mminstruct.errors import ReplyError

Kind = Literal["conversation", "detail", "reasoning"]
Box = tuple[float, float, float, float]

PROMPTS = Path(__file__).parent / "prompts" / "llava.yaml"


class Instance(Record):
    category: str
    bbox: Box


class Facts(Record):
    """What is known of a picture; boxes are (left, top, right, bottom) in shares of its width and height."""

    id: str
    image: str
    captions: list[str] = Field(min_length=1)
    instances: list[Instance] = Field(default_factory=list)

    def boxes(self) -> list[tuple[str, Box]]:
        return [(one.category, one.bbox) for one in self.instances]


class Shot(Config):
    captions: list[str]
    boxes: list[tuple[str, Box]]
    reply: str


class KindFile(Config):
    """One kind's part of the prompt file."""

    system: str
    examples: list[Shot]
    questions: list[str] = Field(default_factory=list)


class PromptFile(Config):
    facts: str
    conversation: KindFile
    detail: KindFile
    reasoning: KindFile


@functools.cache
def prompt_file() -> PromptFile:
    return validate(PromptFile, load_yaml(PROMPTS), where=str(PROMPTS))


class LlavaPrompt(Prompt[Facts, list[tuple[str, str]]]):
    """The reply is a list of (question, answer)."""

    version = "2"
    parameters: ClassVar[Parameters] = Parameters(temperature=0.7, max_tokens=1024)
    kind: ClassVar[Kind]

    @functools.cached_property
    def told(self) -> Told:
        """What stands before every question."""
        file: KindFile = getattr(prompt_file(), self.kind)
        examples = [Example(question=_described(shot.captions, shot.boxes), reply=shot.reply) for shot in file.examples]
        return Told(system=file.system, examples=examples)

    def messages(self, facts: Facts) -> list[Message]:
        return dialogue(self.told, _described(facts.captions, facts.boxes()))


class ConversationPrompt(LlavaPrompt):
    name = "llava/conversation"
    kind = "conversation"

    def parse(self, reply: str, facts: Facts) -> list[tuple[str, str]]:
        return pairs(reply)

    def template(self, facts: Facts, rng: random.Random) -> str:
        """Up to four questions of those that the boxes answer."""
        asked = _questions(facts.boxes())
        rng.shuffle(asked)
        return "".join(pair(question, answer) for question, answer in asked[:4])


class DetailPrompt(LlavaPrompt):
    name = "llava/detail"
    kind = "detail"

    def parse(self, reply: str, facts: Facts) -> list[tuple[str, str]]:
        told = reply.strip()
        if len(told.split()) < 8:
            raise ReplyError("the description is shorter than eight words")
        # The question is chosen by the picture, not by the model.
        return [(random.Random(f"llava/detail/{facts.id}").choice(prompt_file().detail.questions), told)]

    def template(self, facts: Facts, rng: random.Random) -> str:
        boxes = facts.boxes()
        placed = [f"The {name} is {_place(box)}." for name, box in boxes if _once(name, boxes)]
        return " ".join([*facts.captions, *placed])


class ReasoningPrompt(LlavaPrompt):
    name = "llava/reasoning"
    kind = "reasoning"

    def parse(self, reply: str, facts: Facts) -> list[tuple[str, str]]:
        found = pairs(reply)
        if len(found) > 1:
            raise ReplyError(f"there are {len(found)} questions; write one")
        return found

    def template(self, facts: Facts, rng: random.Random) -> str:
        """What would be the leftmost, the rightmost, ... if the one that is were taken away?"""
        boxes = [(name, box) for name, box in facts.boxes() if _once(name, facts.boxes())]
        if len(boxes) < 2:
            return pair("How many different things with a name of their own are there?", f"There are {len(boxes)}.")
        side, axis, sign = rng.choice([("left", 0, 1), ("right", 0, -1), ("top", 1, 1), ("bottom", 1, -1)])
        first, second, *rest = sorted(boxes, key=lambda one: sign * _centre(one[1])[axis])
        behind = f", and {listed([f'the {name}' for name, _ in rest])} further from it" if rest else ""
        return pair(
            f"If the object nearest to the {side} edge were taken away, which one would be nearest to it then?",
            f"The object whose middle is nearest to the {side} edge is the {first[0]}. Behind it comes the {second[0]}"
            f"{behind}. Without the {first[0]}, the {second[0]} would be nearest to the {side} edge.",
        )


KINDS: dict[Kind, LlavaPrompt] = {
    prompt.kind: prompt for prompt in (ConversationPrompt(), DetailPrompt(), ReasoningPrompt())
}


@dataclass(frozen=True)
class Picture:
    """A picture with its facts, and its file or the scene that it is drawn from."""

    id: str
    facts: Facts
    source: Path | Scene
    where: str = ""


class Llava(Builder[Picture]):
    name = "llava"
    version = "2"
    summary = "LLaVA's conversation, detail and reasoning, written by a language model of captions and boxes."
    licence = "Apache-2.0"
    asks = True

    class Options(Config):
        """What is built.

        Args:
            kinds: each gives one conversation a picture.
            scenes: how many procedural pictures, where no file is given.
            seed: of the scenes.
            facts: JSON lines of captions and boxes instead.
            media_root: the folder of that file's pictures; left out, the file's own.
        """

        kinds: list[Kind] = Field(default=["conversation", "detail", "reasoning"], min_length=1)
        scenes: int = Field(default=100, ge=1)
        seed: int = 0
        facts: Path | None = None
        media_root: Path | None = None

    options: Options

    def items(self) -> Iterator[Picture | BadItem]:
        if self.options.facts is None:
            for number in range(self.options.scenes):
                drawn = scene(self.options.seed, number)
                instances = [Instance(category=name, bbox=box) for name, box in drawn.boxes()]
                facts = Facts(id=drawn.id, image=f"{drawn.id}.png", captions=drawn.captions(), instances=instances)
                yield Picture(drawn.id, facts, drawn)
            return
        root = self.options.media_root or self.options.facts.parent
        yield from rows(
            self.options.facts, Facts, lambda where, facts: Picture(facts.id, facts, root / facts.image, where)
        )

    def where(self, item: Picture) -> str:
        return item.where

    def count(self) -> int | None:
        return self.options.scenes if self.options.facts is None else None

    def make(self, item: Picture, job: Job) -> Iterator[Conversation]:
        if isinstance(item.source, Scene):
            media = job.save(item.source.draw(), item.id)
        else:
            media = job.copy(item.source, item.facts.image)
        answers = job.ask_all((KINDS[kind], item.facts) for kind in self.options.kinds)
        for kind, answer in zip(self.options.kinds, answers, strict=True):
            messages: list[Message] = []
            for question, reply in answer.value:
                content: list[Part] = [text(question)]
                if not messages:  # before or behind the first question, as LLaVA has it
                    content = [image(), text(f"\n{question}")]
                    if job.random.random() < 0.5:
                        content = [text(f"{question}\n"), image()]
                messages.append(Message(role="user", content=content))
                messages.append(Message(role="assistant", content=[text(reply)]))
            facts: dict[str, Any] = item.facts.model_dump(mode="json", exclude={"id", "image"})
            yield Conversation(
                id=f"llava/{item.id}/{kind}",
                messages=messages,
                media=[media],
                task=f"llava+{kind}",
                extra={"facts": facts},
                provenance=job.provenance([item.id], answer),
            )


def _described(captions: list[str], boxes: list[tuple[str, Box]]) -> str:
    lines = [f"{name}: [{', '.join(f'{edge:.3f}' for edge in box)}]" for name, box in boxes]
    return prompt_file().facts.format(captions="\n".join(captions), boxes="\n".join(lines) or "(none)")


def _questions(boxes: list[tuple[str, Box]]) -> list[tuple[str, str]]:
    """What boxes answer: how many there are, where each is, how two stand to each other."""
    named = [(name, box) for name, box in boxes if _once(name, boxes)]
    asked = [("How many objects are there?", f"There {_are(len(boxes))}.")]
    asked += [(f"Where is the {name}?", f"The {name} is {_place(box)}.") for name, box in named]
    for (one, first), (other, second) in itertools.combinations(named, 2):
        (x, y), (u, v) = _centre(first), _centre(second)
        if x != u:
            side = "left" if x < u else "right"
            asked.append(
                (f"Is the {one} to the left or to the right of the {other}?", f"It is to the {side} of the {other}.")
            )
        if y != v:
            height = "above" if y < v else "below"
            asked.append((f"Is the {one} above or below the {other}?", f"It is {height} the {other}."))
    return asked


def _are(count: int) -> str:
    return f"is {NUMBERS[1]}" if count == 1 else f"are {NUMBERS[count] if count < len(NUMBERS) else count}"


def _once(name: str, boxes: list[tuple[str, Box]]) -> bool:
    return sum(other == name for other, _ in boxes) == 1


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _place(box: Box) -> str:
    """In which third of the picture the box's middle is."""
    x, y = _centre(box)
    column = "left" if x < 1 / 3 else "right" if x > 2 / 3 else ""
    row = "top" if y < 1 / 3 else "bottom" if y > 2 / 3 else ""
    return f"at the {' '.join(part for part in (row, column) if part)}" if row or column else "in the middle"


BUILDER = Llava
