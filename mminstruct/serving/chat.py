"""A chat as turns: questions with pictures and videos, answers that stream in, undo, retry and reset.

    chat = ChatSession(generator)
    reply = chat.ask("What is on the sign?", [image], settings, cancel)
    for delta in reply:
        ...
    reply.turn.answer                 # the whole answer, or as much of it as there was when it was stopped

No user interface in here: the terminal and the web page show the same turns.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mminstruct.conversation import Conversation, ImagePart, Media, Message, Part, TextPart, VideoPart
from mminstruct.errors import DataError
from mminstruct.media import Video
from mminstruct.serving.engine import Engine
from mminstruct.serving.request import POLL_SECONDS, Answer, Usage
from mminstruct.serving.settings import GenerationSettings

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(eq=False)  # two equal questions are still two turns
class Turn:
    """One question and its answer.

    `answer` grows while it streams and is None before it began. `error` is set when generation failed: such a turn is
    shown, but is no part of the conversation that the model sees next. `attachment` is the caller's own (a user
    interface keeps there what it needs to show the images again).
    """

    text: str
    media: list[Image | Video] = field(default_factory=list)
    answer: str | None = None
    usage: Usage | None = None
    error: Exception | None = None
    attachment: Any = None

    @property
    def counts(self) -> bool:
        """Whether the model sees this turn: it has an answer, maybe a stopped one."""
        return self.answer is not None and self.error is None


@dataclass(frozen=True)
class Framing:
    """What the model is told beside the questions.

    `system` replaces the chat template's own system text. `instruction` stands before the first question, with a blank
    line between them, for models that were trained to be told so (Vision-Flan's form).
    """

    system: str | None = None
    instruction: str | None = None


NO_FRAMING = Framing()


def conversation_of(turns: Sequence[Turn], framing: Framing = NO_FRAMING) -> tuple[Conversation, list[Image | Video]]:
    """The record and its media that ask for an answer to the last turn.

    In a user turn media stand before the text, as in the training data. Turns before the last one count only when they
    were answered. Raises `DataError` when there is no turn.
    """
    if not turns:
        raise DataError("the chat has no question; add a turn first")
    messages: list[Message] = []
    media: list[Image | Video] = []
    if framing.system is not None:
        messages.append(Message(role="system", content=[TextPart(text=framing.system)]))
    *past, last = turns
    for turn in [*(t for t in past if t.counts), last]:
        content: list[Part] = [_place(medium, len(media) + place) for place, medium in enumerate(turn.media)]
        media.extend(turn.media)
        first = not any(message.role == "user" for message in messages)
        text = f"{framing.instruction}\n\n{turn.text}" if first and framing.instruction else turn.text
        messages.append(Message(role="user", content=[*content, TextPart(text=text)]))
        if turn is not last:
            messages.append(Message(role="assistant", content=[TextPart(text=(turn.answer or "").strip())]))
    records = [_record(medium, number) for number, medium in enumerate(media)]
    return Conversation(id="chat", messages=messages, media=records), media


def _place(medium: Image | Video, index: int) -> Part:
    return VideoPart(index=index) if isinstance(medium, Video) else ImagePart(index=index)


def _record(medium: Image | Video, number: int) -> Media:
    width, height = medium.size
    if isinstance(medium, Video):
        times = list(medium.timestamps)
        return Media(kind="video", path=f"video-{number}", width=width, height=height, timestamps=times)
    return Media(path=f"image-{number}", width=width, height=height)


class Reply(Iterator[str]):
    """The answer to `turn`, piece by piece; each piece is in `turn.answer` when it is handed out.

    `close()` (or dropping the object) cancels what is left of it.
    """

    def __init__(self, turn: Turn, answer: Answer) -> None:
        self.turn = turn
        self._answer = answer
        turn.usage = answer.usage
        turn.answer = ""

    def __iter__(self) -> Reply:
        return self

    def __next__(self) -> str:
        """The next piece. Raises the original error when generation failed, and keeps it in `turn.error`."""
        while not self.ended:
            piece = self.wait(POLL_SECONDS)
            if piece is not None:
                return piece
        raise StopIteration

    def wait(self, seconds: float) -> str | None:
        """The next piece, or None when none came in time or the answer is over (`ended`). Raises as `__next__` does."""
        try:
            piece = self._answer.wait(seconds)
        except Exception as error:
            self.turn.error = error
            raise
        # Many tokenizers begin an answer with a space, which belongs to the template and not to the answer.
        text = piece if self.turn.answer or piece is None else piece.lstrip()
        if not text:
            return None
        self.turn.answer = (self.turn.answer or "") + text
        return text

    @property
    def ended(self) -> bool:
        return self._answer.ended

    @property
    def position(self) -> int:
        """How many requests are answered before this one; 0 when it is its turn."""
        return self._answer.position

    def close(self) -> None:
        self._answer.close()


class ChatSession:
    """The turns of one chat with one engine.

    Methods may be called while an answer streams, from another thread: `undo` and `reset` take the turn out of the
    chat, and what still streams then belongs to no chat. They do not stop the answer: that is the caller's `cancel`.
    """

    def __init__(self, engine: Engine, framing: Framing = NO_FRAMING) -> None:
        self.engine = engine
        self.framing = framing
        self.turns: list[Turn] = []

    def ask(
        self,
        text: str,
        media: Sequence[Image | Video] = (),
        settings: GenerationSettings | None = None,
        cancel: threading.Event | None = None,
        attachment: Any = None,
    ) -> Reply:
        """Add a question and stream its answer. The turn is in `turns` as soon as this returns.

        Raises `DataError` when there is neither text nor a medium; iterating raises what generation raised.
        """
        if not text.strip() and not media:
            raise DataError("the question is empty; type a question or add a picture")
        turn = Turn(text=text, media=list(media), attachment=attachment)
        return self._answer([*self.turns, turn], settings, cancel)

    def retry(self, settings: GenerationSettings | None = None, cancel: threading.Event | None = None) -> Reply:
        """Answer the last question again. Raises `DataError` when there is none."""
        if not self.turns:
            raise DataError("the chat has no question to answer again; ask one")
        old = self.turns[-1]
        again = Turn(text=old.text, media=old.media, attachment=old.attachment)
        return self._answer([*self.turns[:-1], again], settings, cancel)

    def edit(
        self,
        number: int,
        text: str,
        settings: GenerationSettings | None = None,
        cancel: threading.Event | None = None,
    ) -> Reply:
        """Ask question `number` (from 0) in other words, with its media; the turns after it are dropped.

        Raises `DataError` when there is no such question, or nothing is left of it.
        """
        if not 0 <= number < len(self.turns):
            raise DataError(f"the chat has {len(self.turns)} questions, and none of number {number + 1}")
        old = self.turns[number]
        if not text.strip() and not old.media:
            raise DataError("the question is empty; type a question")
        again = Turn(text=text, media=old.media, attachment=old.attachment)
        return self._answer([*self.turns[:number], again], settings, cancel)

    def undo(self) -> Turn | None:
        """Take the last turn out of the chat and return it; None when there is none."""
        if not self.turns:
            return None
        last = self.turns[-1]
        self.turns = self.turns[:-1]
        return last

    def reset(self) -> None:
        """Start over."""
        self.turns = []

    def _answer(self, turns: list[Turn], settings: GenerationSettings | None, cancel: threading.Event | None) -> Reply:
        conversation, media = conversation_of(turns, self.framing)
        answer = self.engine.stream(conversation, media, settings, cancel)
        self.turns = turns
        return Reply(turns[-1], answer)
