"""What tests of benchmarks answer with, and how they read a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mminstruct.conversation import Conversation, Message, TextPart
from mminstruct.evaluation.adapters import Adapter
from mminstruct.evaluation.requests import Reply, Request
from mminstruct.media import open_image


class Table(Adapter):
    """Answers from a table, by the id of the question; what is not in it gets the empty answer.

    Each image is opened, as a model would; what stands in the place of a video is none.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = texts

    @property
    def identity(self) -> None:
        return None

    def answer(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, Reply]]]:
        for place, request in enumerate(requests):
            for medium in request.conversation.media:
                if medium.kind == "image":
                    open_image(medium.path)
            text = self.texts.get(request.conversation.id, "")
            yield [(place, Reply(text=text, tokens=1, finish="choice" if request.choices else "end"))]

    def facts(self) -> dict[str, Any]:
        return {}


def shown(conversation: Conversation) -> str:
    """All turns as one text, `<image>` and `<video>` for media and a bar between turns."""
    return "|".join(map(_text, conversation.messages))


def last_shown(conversation: Conversation) -> str:
    """The last turn alone."""
    return _text(conversation.messages[-1])


def _text(message: Message) -> str:
    return "".join(part.text if isinstance(part, TextPart) else f"<{part.type}>" for part in message.content)
