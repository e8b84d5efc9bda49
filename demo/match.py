"""What the room "Side by side" keeps of one tab: two chats, who stands on which side, and whether the vote was given.

    first, second ──drawn by chance where names are hidden──▶ left, right      one question ──▶ two replies

Models and settings are those of the first question until the chats are cleared, so a vote says whom it is about.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mminstruct.demo.uploads import Shown, Uploads
from mminstruct.demo.visitors import Run, Visitor
from mminstruct.demo.votes import Contestant, Side, Verdict, Vote, VoteFile, conversation, now
from mminstruct.errors import DataError
from mminstruct.serving.chat import ChatSession, Framing, Reply, conversation_of
from mminstruct.serving.models import Models

_OVER = ("end", "stop", "length")  # how answers end that can be voted on: by themselves


@dataclass
class Seat:
    """One side: its chat, and the answer that runs."""

    visitor: Visitor
    contestant: Contestant
    run: Run | None = None

    @property
    def over(self) -> bool:
        """Whether the last question has an answer that ended by itself."""
        turns = self.visitor.chat.turns
        return (
            bool(turns) and turns[-1].counts and turns[-1].usage is not None and turns[-1].usage.finish_reason in _OVER
        )


class Match:
    """Two chats about the same questions.

    Attributes:
        seats: left and right.
        hidden: whether the names are hidden until a vote.
        voted: the verdict on the last question, None before.
        current: the answering that runs; both answers belong to it.
    """

    def __init__(self, models: Models, framing: Framing) -> None:
        self._models = models
        self._framing = framing
        self.current: Run | None = None
        self._clear()

    def _clear(self) -> None:
        self.seats: tuple[Seat, ...] = ()
        self.hidden = False
        self.voted: Verdict | None = None
        self.revealed = False

    # ---- the conversation --------------------------------------------------------------------------------------------

    def ask(
        self,
        text: str,
        files: Sequence[Path],
        uploads: Uploads,
        sender: str,
        first: Contestant,
        second: Contestant,
        hide: bool,
    ) -> list[Reply]:
        """Ask both sides. Raises what opening the files and asking raise; then nothing has changed."""
        seats = self.seats if self.begun else self._drawn(first, second, hide)
        sampling = [seat.visitor.chat.engine.frame_sampling for seat in seats]
        media, shown = uploads.open(files, sampling[0], sender)
        # The files belong to the left side; the right one shows the same, unless it looks at other frames.
        other = (
            (media, Shown(media=shown.media))
            if sampling[1] == sampling[0]
            else uploads.open(files, sampling[1], sender)
        )
        asked = []
        for seat, (own, attachment) in zip(seats, ((media, shown), other), strict=True):
            seat.visitor.require_room(own)
            asked.append((seat, own, attachment))
        replies = []
        self.stop()
        try:
            for seat, own, attachment in asked:
                seat.run = Run()
                chat = seat.visitor.chat
                replies.append(chat.ask(text, own, seat.contestant.settings, seat.run.cancel, attachment))
        except BaseException:
            for (seat, *_), reply in zip(asked, replies, strict=False):  # one side was refused, so neither is asked
                reply.close()
                seat.visitor.chat.undo()
            raise
        if not self.begun:
            self.hidden = hide
        self.seats = seats
        self.voted = None
        return replies

    def retry(self) -> list[Reply]:
        """Answer the last question again on both sides. Raises `DataError` when there is none."""
        if not self.begun:
            raise DataError("there is no question to answer again; ask one")
        self.stop()
        replies: list[Reply] = []
        for seat in self.seats:
            seat.run = Run()
            replies.append(seat.visitor.chat.retry(seat.contestant.settings, seat.run.cancel))
        self.voted = None
        return replies

    @property
    def begun(self) -> bool:
        return any(seat.visitor.chat.turns for seat in self.seats)

    def stop(self) -> None:
        """Stop both answers."""
        for seat in self.seats:
            if seat.run is not None:
                seat.run.cancel.set()

    def forget(self) -> None:
        """Stop, and delete both chats with their files."""
        self.stop()
        self.current = None
        for seat in self.seats:
            seat.visitor.forget()
        self._clear()

    def _drawn(self, first: Contestant, second: Contestant, hide: bool) -> tuple[Seat, ...]:
        order = [first, second]
        if hide and random.SystemRandom().random() < 0.5:
            order.reverse()
        return tuple(Seat(self._visitor(contestant), contestant) for contestant in order)

    def _visitor(self, contestant: Contestant) -> Visitor:
        framing = replace(self._framing, system=contestant.system)
        return Visitor(ChatSession(self._models[contestant.model], framing))

    # ---- the vote ----------------------------------------------------------------------------------------------------

    @property
    def named(self) -> bool:
        """Whether the names may be seen."""
        return not self.hidden or self.revealed

    @property
    def can_vote(self) -> bool:
        return self.voted is None and self.current is None and self.begun and all(seat.over for seat in self.seats)

    def vote(self, verdict: Verdict, file: VoteFile) -> Vote:
        """Write the vote on the last answers, and show the names.

        Raises:
            DataError: there is nothing to vote on, or it was voted on already.
            RunError: the vote could not be written; it may be given again.
        """
        if not self.can_vote:
            raise DataError("there are no two whole answers to vote on; ask, and wait until both have ended")
        name = uuid.uuid4().hex
        sides = []
        for seat, side in zip(self.seats, ("left", "right"), strict=True):
            chat = seat.visitor.chat
            _, media = conversation_of(chat.turns, chat.framing)
            record = conversation(chat.turns, chat.framing, f"votes/{name}/{side}", file.keep(media))
            sides.append(Side(**dict(seat.contestant), conversation=record))
        vote = Vote(
            id=name,
            time=now(),
            verdict=verdict,
            question=len(self.seats[0].visitor.chat.turns),
            blind=not self.named,
            left=sides[0],
            right=sides[1],
        )
        file.add(vote)
        self.voted = verdict
        self.revealed = True
        return vote
