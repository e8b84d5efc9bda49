"""Figures of a data set: how many conversations, turns and images, and how long the texts are.

conversations ──one pass──▶ Statistics (two numbers a conversation and the names of the images in memory)
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mminstruct.conversation import Conversation

_QUANTILES = {"least": 0.0, "median": 0.5, "p90": 0.9, "p99": 0.99, "most": 1.0}


@dataclass(frozen=True)
class Statistics:
    """`unique_images` are told apart by SHA-256 where the records have it, and by path where they have not.

    The quantiles are nearest-rank: each is the length of some conversation, in characters and in turns.
    """

    conversations: int
    turns: dict[str, int]
    images: int
    unique_images: int
    without_images: int
    tasks: dict[str, int]
    characters: dict[str, int]
    turns_per_conversation: dict[str, int]


def statistics(conversations: Iterable[Conversation], media_root: Path) -> Statistics:
    turns: Counter[str] = Counter()
    tasks: Counter[str] = Counter()
    unique: set[str] = set()
    images = without_images = 0
    characters, lengths = array("q"), array("q")
    for conversation in conversations:
        turns.update(message.role for message in conversation.messages)
        tasks.update([conversation.task] if conversation.task else [])
        pictures = [media for media in conversation.media if media.kind == "image"]
        unique.update(media.sha256 or str(media_root / media.path) for media in pictures)
        images += len(pictures)
        without_images += not pictures
        characters.append(sum(len(message.text) for message in conversation.messages))
        lengths.append(len(conversation.messages))
    return Statistics(
        conversations=len(lengths),
        turns=dict(sorted(turns.items())),
        images=images,
        unique_images=len(unique),
        without_images=without_images,
        tasks=dict(sorted(tasks.items())),
        characters=_quantiles(characters),
        turns_per_conversation=_quantiles(lengths),
    )


def _quantiles(values: Sequence[int]) -> dict[str, int]:
    ordered = sorted(values)
    return {name: ordered[max(0, math.ceil(q * len(ordered)) - 1)] for name, q in _QUANTILES.items()} if ordered else {}
