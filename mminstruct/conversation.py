"""The one record that everything speaks: a conversation with images and video anywhere in its turns.

A `Conversation` has `messages`; a message has a role and a list of parts (text, image i, video i); image and video
parts point into `media` by index, so media can stand in any turn, several in one turn, in assistant turns too.
Builders write these records, formats convert them, chat templates turn them into token ids.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Role = Literal["system", "user", "assistant", "tool"]


class Record(BaseModel):
    """A record that refuses unknown keys, so that a misspelt field is an error and not a loss."""

    model_config = ConfigDict(extra="forbid")


class TextPart(Record):
    type: Literal["text"] = "text"
    text: str


class ImagePart(Record):
    """The place of `media[index]`, an image."""

    type: Literal["image"] = "image"
    index: int = Field(ge=0)


class VideoPart(Record):
    """The place of `media[index]`, a video."""

    type: Literal["video"] = "video"
    index: int = Field(ge=0)


Part = Annotated[TextPart | ImagePart | VideoPart, Field(discriminator="type")]


class Message(Record):
    role: Role
    content: list[Part]

    @property
    def text(self) -> str:
        """The text parts joined, media left out."""
        return "".join(part.text for part in self.content if isinstance(part, TextPart))


class Media(Record):
    """One image or video file.

    `path` is relative to the folder of the data set that holds the record (absolute paths are kept as they are);
    `timestamps` are seconds, for the frames that were taken of a video.
    """

    kind: Literal["image", "video"] = "image"
    path: str
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    timestamps: list[float] | None = None


class Preference(Record):
    """A better and a worse continuation of the same conversation."""

    chosen: list[Message]
    rejected: list[Message]


class Provenance(Record):
    """Where a record comes from: who built it, out of what, and under which licence."""

    builder: str
    version: str
    parents: list[str] = Field(default_factory=list)
    call_ids: list[str] = Field(default_factory=list)
    licence: str | None = None


class Conversation(Record):
    """One training or evaluation sample.

    `id` is namespaced by its source (`easy-vqa/train/17`). Raises `ValueError` (pydantic) when a part points at
    media that does not exist or is of another kind, or when a medium is never used.
    """

    id: str
    messages: list[Message]
    media: list[Media] = Field(default_factory=list)
    options: list[str] | None = None
    answers: list[str] | None = None
    task: str | None = None
    context_ids: list[str] | None = None
    passages: list[str] | None = None
    preference: Preference | None = None
    scores: dict[str, float] | None = None
    extra: dict[str, Any] | None = None
    provenance: Provenance | None = None

    @model_validator(mode="after")
    def _media_and_places_agree(self) -> Conversation:
        turns = list(self.messages)
        if self.preference is not None:
            turns += [*self.preference.chosen, *self.preference.rejected]
        used = set()
        for message in turns:
            for part in message.content:
                if isinstance(part, TextPart):
                    continue
                if part.index >= len(self.media):
                    raise ValueError(
                        f"conversation {self.id!r}: {part.type} {part.index} is placed in the text, "
                        f"but the record has {len(self.media)} media"
                    )
                if self.media[part.index].kind != part.type:
                    raise ValueError(
                        f"conversation {self.id!r}: media {part.index} is {self.media[part.index].kind}, "
                        f"but the text places it as {part.type}"
                    )
                used.add(part.index)
        unused = sorted(set(range(len(self.media))) - used)
        if unused:
            raise ValueError(f"conversation {self.id!r}: media {unused} stand nowhere in the text")
        return self


def text(value: str) -> TextPart:
    return TextPart(text=value)


def image(index: int = 0) -> ImagePart:
    return ImagePart(index=index)


def message(role: Role, *content: Part | str) -> Message:
    """A message of parts; a string is a text."""
    return Message(role=role, content=[text(part) if isinstance(part, str) else part for part in content])
