"""Answers that are cut off: by what the log of replies says, and by how the task's other answers end.

    calls.sqlite ──replies that ended at their greatest length──▶ answers that are such a reply's end
    answers of a task ──nearly all end a sentence──▶ the few that do not

Only answers of some length count, so that "yes" and "a red bus" ask for no full stop.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mminstruct.conversation import Conversation

LONG = 40  # characters
ENOUGH = 20  # long answers of a task before anything is said of one
MOST = 0.05  # of them that may end otherwise; more, and the task is one whose answers end anyhow
_MARKS = ".!?\u2026\u3002\uff01\uff1f\u061f\u0964\u0965\u203c\u2049\uff0e"
_CLOSING = " \t\r\n\"'\u201d\u2019\u00bb\u300d\u300f)]}>*_`~|$\uff09\u3011"


def ends(text: str) -> bool:
    """Whether a text ends as a sentence does: with a mark, a picture character, or closed code."""
    stripped = text.rstrip()
    if stripped.endswith("```"):
        return True
    last = stripped.rstrip(_CLOSING)[-1:]
    return last in _MARKS or (bool(last) and unicodedata.category(last) == "So")


@dataclass
class _Task:
    ended: int = 0
    open: list[tuple[int, str, str, int, str]] = field(default_factory=list)
    ragged: bool = False


@dataclass(frozen=True)
class CutOff:
    number: int
    where: str
    id: str
    what: str


class Endings:
    """
    Args:
        cut: key to text of replies in the log that ended at their greatest length.
    """

    def __init__(self, cut: Mapping[str, str]) -> None:
        self._cut = cut
        self._tasks: dict[str, _Task] = {}

    def take(self, number: int, where: str, conversation: Conversation) -> str | None:
        """Note how the answers end; what is wrong where the log knows it at once."""
        answers = [(turn, one.text) for turn, one in enumerate(conversation.messages) if one.role == "assistant"]
        if conversation.preference is not None:
            answers += [(len(conversation.messages), one.text) for one in conversation.preference.chosen]
        known = self._known(conversation, answers)
        if known is not None:
            return known
        task = self._tasks.setdefault(conversation.task or "", _Task())
        for turn, text in answers:
            if len(text) < LONG:
                continue
            if ends(text):
                task.ended += 1
            elif not task.ragged:
                task.open.append((number, where, conversation.id, turn, text.rstrip()[-24:]))
                # A task whose answers end anyhow is not kept in memory.
                if len(task.open) > 500 and len(task.open) > 0.2 * task.ended:
                    task.open.clear()
                    task.ragged = True
        return None

    def _known(self, conversation: Conversation, answers: list[tuple[int, str]]) -> str | None:
        if not self._cut or conversation.provenance is None:
            return None
        for key in conversation.provenance.call_ids:
            reply = self._cut.get(key, "").rstrip()
            for turn, text in answers:
                if text.strip() and reply.endswith(text.strip()):
                    return f"turn {turn} is the reply {key[:12]}, which the log says ended at its greatest length"
        return None

    def found(self) -> Iterator[CutOff]:
        """What the other answers of each task tell, once all were taken."""
        for name, task in sorted(self._tasks.items()):
            count = task.ended + len(task.open)
            if task.ragged or count < ENOUGH or len(task.open) > MOST * count:
                continue
            of = f"of the task {name}" if name else "of the data set"
            for number, where, id, turn, tail in task.open:
                what = f"turn {turn} ends in {tail!r}; of {count:,} long answers {of} {task.ended:,} end a sentence"
                yield CutOff(number, where, id, what)
