"""A builder that asks two questions an item, with a picture, for the engine's tests."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from mminstruct.building import Builder, Job
from mminstruct.building.prompt import Prompt
from mminstruct.config import Config
from mminstruct.conversation import Conversation, Message, image, text
from mminstruct.errors import MediaError, ReplyError


@dataclass(frozen=True)
class Grey:
    id: str
    value: int


class Shade(Prompt[Grey, str]):
    name = "greys/shade"

    def messages(self, facts: Grey) -> list[Message]:
        return [Message(role="user", content=[image(), text(f"what is {facts.id}?")])]

    def parse(self, reply: str, facts: Grey) -> str:
        if not reply.startswith("it is "):
            raise ReplyError("it does not begin with 'it is'")
        return reply

    def template(self, facts: Grey, rng: random.Random) -> str:
        return f"it is {facts.value}"


class More(Shade):
    name = "greys/more"

    def messages(self, facts: Grey) -> list[Message]:
        return [Message(role="user", content=[text(f"what more of {facts.id}?")])]


class Greys(Builder[Grey]):
    name = "greys"
    version = "1"
    summary = "Greys."
    licence = "CC0-1.0"
    asks = True

    class Options(Config):
        count: int = 10
        broken: tuple[int, ...] = ()

    options: Options

    def items(self) -> Iterator[Grey]:
        yield from (Grey(f"grey/{number}", number) for number in range(self.options.count))

    def make(self, item: Grey, job: Job) -> Iterator[Conversation]:
        if item.value in self.options.broken:
            raise MediaError(f"{item.id} is broken")
        if item.value % 7 == 6:
            job.drop("sevens")
            return
        media = job.save(Image.new("L", (3, 2), item.value % 256), item.id)
        first = job.ask(Shade(), item, [media])
        second = job.ask(More(), item)
        turns = [[image(), text("which?")], [text(first.value)], [text("more?")], [text(second.value)]]
        yield Conversation(
            id=item.id,
            messages=[
                Message(role="assistant" if turn % 2 else "user", content=content) for turn, content in enumerate(turns)
            ],
            media=[media],
            provenance=job.provenance([], first, second),
        )


BUILDER = Greys
