"""What is left out of a data set before the first step: conversations that cannot be used, and too long ones.

Joined ──files of media there? headers whole?──▶ {global index: Skipped}
ConversationDataset's token index ──limit──▶ {global index: Skipped}
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.progress import track

from mminstruct.conversation import Media
from mminstruct.data.dataset import ConversationDataset
from mminstruct.data.seen import Problems
from mminstruct.data.source import Joined
from mminstruct.errors import DataError, MediaError
from mminstruct.formats import media_source
from mminstruct.media import image_size
from mminstruct.models.processor import Processor

TooLong = Literal["error", "truncate", "skip"]
Cause = Literal["media", "template", "too_long"]


@dataclass(frozen=True)
class Skipped:
    """A conversation that is left out: its global index, the kind of cause, and one line that says why."""

    index: int
    cause: Cause
    why: str


def first_error(found: dict[int, Skipped]) -> DataError:
    """The error of the first of them."""
    return DataError(found[min(found)].why)


def unusable(conversations: Joined, headers: bool, cache: Path) -> dict[int, Skipped]:
    """The conversations with media whose files do not exist or, where `headers` are read, are broken from the start.

    Videos are only looked for. What is broken further behind is an error when it is decoded. What the headers of files
    said is remembered in `cache`.
    """
    found: dict[int, Skipped] = {}
    for start, part in zip(conversations.starts, conversations.parts, strict=True):
        media = track(
            part.media(),
            description=f"looking at the media of {part.name}",
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        known = Problems(cache, part.digest, part.media_root) if headers and part.digest is not None else None
        problems: dict[str, str] = {}
        for one in media:
            source = media_source(one.path, part.media_root)
            check = functools.partial(_problem, one, source, headers)
            if (why := known.next(source, check) if known else check()) is not None:
                problems[one.path] = why
        if known:
            known.save()
        for number in range(len(part) if problems else 0):
            conversation = part[number]
            why = next((problems[one.path] for one in conversation.media if one.path in problems), None)
            if why is not None:
                index = start + number
                found[index] = Skipped(index, "media", f"conversation {conversation.id!r}: {why}")
    return found


def _problem(media: Media, source: str | Path, headers: bool) -> str | None:
    if isinstance(source, Path) and not source.is_file():
        return f"the {media.kind} {source} does not exist; check media_root, or drop the conversation"
    if headers and media.kind == "image":
        try:
            image_size(source)
        except MediaError as error:
            return str(error)
    return None


def too_long(
    dataset: ConversationDataset, limit: int, setting: str, rule: TooLong, known: Container[int] = ()
) -> dict[int, Skipped]:
    """The conversations that are left out because they have more tokens than `limit`, and no cut makes them shorter;
    pairs, because one of their branches has.

    Args:
        setting: the name of the one that says the limit.
        known: indices that are left out for another reason.

    Raises:
        DataError: by the rule `error`, for the first of them, where it is sure before the sample is made: a video may
            turn out shorter when it is opened, and what a native model's own processor makes of a text is estimated.
    """
    index = dataset.index
    exact = isinstance(dataset.processor, Processor)
    found: dict[int, Skipped] = {}
    for sample in np.flatnonzero((index.tokens > limit) | (index.turns == 0)).tolist():
        place = sample // dataset.branches
        if place in known or place in found:
            continue
        conversation = dataset.conversations[sample]
        name = f"conversation {conversation.id!r}"
        if rule == "truncate":
            found[place] = Skipped(
                place, "too_long", f"{name} has more than {limit} tokens before its first answer ends"
            )
            continue
        why = f"{name} has {index.tokens[sample]} tokens, more than {setting} {limit}"
        if rule == "skip":
            found[place] = Skipped(place, "too_long", why)
        elif exact and all(media.kind == "image" for media in conversation.media):
            raise DataError(f"{why}; raise it, or set data.too_long")
    return found
