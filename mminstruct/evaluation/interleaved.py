"""Prompts with images at their places: "Compare <image 1> with <image 2>." -> image, text, image, text.

Marks are numbered from 1. An image may be named twice, and then stands in both places.
"""

from __future__ import annotations

import re

from mminstruct.conversation import Conversation, Media, Message, Part, image, text
from mminstruct.errors import DataError
from mminstruct.evaluation.item import Item

MARK = re.compile(r"<image (\d+)>")


def interleaved(item: Item, prompt: str) -> Conversation:
    """One user turn: the prompt's text with the item's images where their marks stand.

    Images that no mark names are left out, as the programs that read these questions do.

    Raises:
        DataError: a mark names an image that the item lacks.
    """
    content: list[Part] = []
    at = 0
    for mark in MARK.finditer(prompt):
        number = int(mark[1])
        if not 1 <= number <= len(item.images):
            raise DataError(
                f"question {item.id!r} has the mark {mark[0]} and {len(item.images)} images; give the official file"
            )
        if mark.start() > at:
            content.append(text(prompt[at : mark.start()]))
        content.append(image(number - 1))
        at = mark.end()
    if at < len(prompt):
        content.append(text(prompt[at:]))
    used = sorted({part.index for part in content if part.type == "image"})
    places = {index: place for place, index in enumerate(used)}
    content = [image(places[part.index]) if part.type == "image" else part for part in content]
    media = [Media(path=str(item.images[index])) for index in used]
    return Conversation(
        id=item.id, messages=[Message(role="user", content=content)], media=media, task=item.kind or None
    )
