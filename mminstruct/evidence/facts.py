"""What a record says is to be seen in its picture: the one place for evidence, `extra["facts"]` of a conversation.

    {"captions": ["A bus."],
     "instances": [{"category": "bus", "bbox": [left, top, right, bottom]}],
     "lines": [{"text": "STOP", "quad": [[x, y], [x, y], [x, y], [x, y]], "confidence": 0.93}]}

All numbers are shares of the picture's width and height, from its top left, so they hold for every size of it. An
instance or a line of another picture than the first names it: `"image": 1` is `media[1]`. Further keys may stand
anywhere and are kept; builders put what else they know there.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mminstruct.conversation import Conversation
from mminstruct.errors import DataError

KEY = "facts"

Share = Annotated[float, Field(ge=0, le=1)]
Corner = tuple[Share, Share]


class _Open(BaseModel):
    """Other keys are not looked at."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Instance(_Open):
    """A thing of a kind, and its box (left, top, right, bottom)."""

    category: str
    bbox: tuple[Share, Share, Share, Share]
    image: int = Field(default=0, ge=0)

    @property
    def corners(self) -> tuple[Corner, Corner, Corner, Corner]:
        left, top, right, bottom = self.bbox
        return (left, top), (right, top), (right, bottom), (left, bottom)

    @property
    def label(self) -> str:
        return self.category


class Line(_Open):
    """A line of text, its four corners, clockwise from the text's own top left, and how sure its reader was."""

    text: str
    quad: tuple[Corner, Corner, Corner, Corner]
    confidence: float = Field(default=1.0, ge=0, le=1)
    image: int = Field(default=0, ge=0)

    @property
    def corners(self) -> tuple[Corner, Corner, Corner, Corner]:
        return self.quad

    @property
    def label(self) -> str:
        return self.text


class Facts(_Open):
    captions: list[str] = Field(default_factory=list)
    instances: list[Instance] = Field(default_factory=list)
    lines: list[Line] = Field(default_factory=list)

    @property
    def placed(self) -> list[Instance | Line]:
        """What has a place in a picture."""
        return [*self.instances, *self.lines]

    def marks(self, image: int) -> list[Instance | Line]:
        """What has a place in one of the record's pictures."""
        return [one for one in self.placed if one.image == image]


def facts_of(conversation: Conversation) -> Facts | None:
    """The evidence that a conversation carries, None where it carries none.

    Raises:
        DataError: something else stands there, a place lies outside of its picture, or names one that is not there.
    """
    given = (conversation.extra or {}).get(KEY)
    if given is None:
        return None
    where = f"conversation {conversation.id!r}: extra.{KEY}"
    try:
        facts = Facts.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = "".join(f".{part}" for part in first["loc"])
        raise DataError(
            f"{where}{key}: {first['msg']}; places are shares of the picture, four edges or four corners"
        ) from None
    for one in facts.placed:
        if one.image >= len(conversation.media):
            raise DataError(
                f"{where} has {one.label!r} in picture {one.image} of {len(conversation.media)}; mend the number"
            )
        if isinstance(one, Instance) and (one.bbox[0] > one.bbox[2] or one.bbox[1] > one.bbox[3]):
            raise DataError(
                f"{where} has a box of {one.label!r} that ends before it begins; write left, top, right, bottom"
            )
    return facts
