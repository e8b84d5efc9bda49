"""Figures of a data set for its card, counted while conversations pass: the same whatever came in which run.

conversation, conversation, ... ──add──▶ Figures (counters, the first conversation of each task, keys of its calls)
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable

from mminstruct.conversation import Conversation

EXAMPLES = 4  # conversations that the card shows
_NAMES = 1000  # different sources that are told apart


class Figures:
    """
    Attributes:
        turns, media, tasks, licences, sources: how often each was seen; turns by role, media by kind.
        turns_each, images_each: how many conversations have so many turns, and so many pictures.
        words: how many words each answer has.
        preferences: conversations with a better and a worse continuation.
        pictures: different pictures, by their SHA-256 or path.
        examples: the first conversation of each of the first tasks.
    """

    def __init__(self) -> None:
        self.conversations = 0
        self.preferences = 0
        self.turns: Counter[str] = Counter()
        self.media: Counter[str] = Counter()
        self.tasks: Counter[str] = Counter()
        self.licences: Counter[str] = Counter()
        self.sources: Counter[str] = Counter()
        self.turns_each: Counter[int] = Counter()
        self.images_each: Counter[int] = Counter()
        self.words = array("i")
        self.pictures: set[int] = set()
        self.examples: dict[str, Conversation] = {}
        self._calls: dict[bytes, None] = {}

    def add(self, conversation: Conversation) -> None:
        self.conversations += 1
        images = 0
        for medium in conversation.media:
            self.media[medium.kind] += 1
            if medium.kind == "image":
                images += 1
                self.pictures.add(hash(medium.sha256 or medium.path))
        self.images_each[images] += 1
        self.turns_each[len(conversation.messages)] += 1
        for message in conversation.messages:
            self.turns[message.role] += 1
            if message.role == "assistant":
                self.words.append(len(message.text.split()))
        if conversation.preference is not None:
            self.preferences += 1
            self.words.extend(len(message.text.split()) for message in conversation.preference.chosen)
        self.tasks[conversation.task or ""] += 1
        if (conversation.task or "") not in self.examples and len(self.examples) < EXAMPLES:
            self.examples[conversation.task or ""] = conversation
        origin = conversation.provenance
        if origin is not None:
            self.licences[origin.licence or "not stated"] += 1
            for parent in origin.parents:
                # What stands before the first slash is the source; what has none may be an item of it.
                name = parent.partition("/")[0]
                if name in self.sources or len(self.sources) < _NAMES:
                    self.sources[name] += 1
            self.called(origin.call_ids)

    def called(self, keys: Iterable[str]) -> None:
        """Note replies by their keys in the log."""
        self._calls.update((key.encode("ascii", "replace"), None) for key in keys)

    def calls(self) -> list[str]:
        """The keys of all replies, each once, sorted."""
        return sorted(key.decode("ascii") for key in self._calls)
