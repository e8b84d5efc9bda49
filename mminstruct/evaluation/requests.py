"""What a benchmark asks of a model, what the model replies, and the key under which that reply is kept.

    Item ── Benchmark.request ──▶ Request ── Adapter ──▶ Reply
                                     └─ Keys(identity of the model).key ──▶ sha256

The key holds everything a reply depends on: the bytes of the pictures, the whole prompt, how it is decoded, and what
the adapter says of its weights and processor. Equal keys are asked once, and asked again by nobody.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict

from mminstruct.conversation import Conversation
from mminstruct.errors import MediaError
from mminstruct.files import bytes_sha256, sha256
from mminstruct.media import FrameSampling, Video, open_image, open_medium

VERSION = 1
"""Of the key: raised when equal requests would be answered otherwise than before."""
BLANK_COLOUR = (128, 128, 128)


@dataclass(frozen=True)
class Request:
    """One prompt and how it is to be answered, greedily.

    Attributes:
        conversation: ends with a user's turn; its media are absolute paths.
        max_new_tokens: the longest answer.
        stop: texts at which an answer ends; they are not part of it.
        choices: where there are some, nothing is generated: the reply is the choice whose first token is the most
            probable.
        blank: grey pictures of the same sizes are shown instead.
        alone: the model answers it in a batch of its own (the self-check of batching).
    """

    conversation: Conversation
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    blank: bool = False
    alone: bool = False

    def open(self, sampling: FrameSampling) -> list[Image.Image | Video]:
        """The media, opened, or grey ones in their place. Raises `MediaError`."""
        found = [open_medium(medium.kind, Path(medium.path), sampling) for medium in self.conversation.media]
        return [_grey(one) for one in found] if self.blank else found


class Reply(BaseModel):
    """A model's answer.

    Attributes:
        text: without special tokens, outer white space and the text that stopped it.
        tokens: how many were generated.
        finish: "end" by an end token or a stop text, "length" by the limit, "choice" where one was picked, "missing"
            where a server gave none: such a reply is never kept.
        scores: log probability of each choice's first token.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str
    tokens: int
    finish: Literal["end", "length", "choice", "missing"]
    scores: dict[str, float] | None = None


class Keys:
    """Makes the keys of requests to one model; each file is read once.

    Args:
        identity: what the adapter's answers depend on beside the request.
    """

    def __init__(self, identity: Mapping[str, str]) -> None:
        self._identity = dict(identity)
        self._hashes: dict[str, str] = {}
        self._sizes: dict[str, str] = {}

    def key(self, request: Request) -> str:
        """sha256 of the model and of all of a request. Raises `MediaError` where a file is missing or no picture."""
        return self._key(request, self._identity)

    def question(self, request: Request) -> str:
        """The same without the model: what is asked, whoever answers."""
        return self._key(request, {})

    def _key(self, request: Request, identity: Mapping[str, str]) -> str:
        parts = {
            "version": VERSION,
            "model": identity,
            "messages": [
                message.model_dump(mode="json", exclude_none=True) for message in request.conversation.messages
            ],
            "media": self.seen(request),
            "max_new_tokens": request.max_new_tokens,
            "stop": request.stop,
            "choices": request.choices,
            "alone": request.alone,
        }
        return bytes_sha256(json.dumps(parts, sort_keys=True).encode())

    def seen(self, request: Request) -> tuple[str, ...]:
        """What the model sees of the media: hashes of the files, or the sizes of the grey pictures."""
        return tuple(
            self._size(medium.path)
            if request.blank and medium.kind == "image"
            else self._hash(medium.path, request.blank)
            for medium in request.conversation.media
        )

    def _hash(self, path: str, blank: bool) -> str:
        if path not in self._hashes:
            try:
                self._hashes[path] = sha256(Path(path))
            except OSError as error:
                raise MediaError(f"{path} cannot be read ({error.strerror}); check the benchmark's files") from None
        return f"grey {self._hashes[path]}" if blank else self._hashes[path]

    def _size(self, path: str) -> str:
        if path not in self._sizes:
            self._sizes[path] = "grey {}x{}".format(*open_image(Path(path)).size)
        return self._sizes[path]


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where in a text the first of the stop texts begins."""
    places = [text.find(stop) for stop in stops]
    return min((place for place in places if place >= 0), default=None)


def _grey(medium: Image.Image | Video) -> Image.Image | Video:
    if isinstance(medium, Image.Image):
        return Image.new("RGB", medium.size, BLANK_COLOUR)
    return replace(medium, frames=tuple(Image.new("RGB", frame.size, BLANK_COLOUR) for frame in medium.frames))
