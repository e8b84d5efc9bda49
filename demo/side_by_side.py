"""The tab "Side by side": one question to two models at once, both answers as they are made, and a vote.

Both answers stream through one handler, which looks at either in turn, so one that waits or fails never holds up the
other. Each has a `Run` of its own; the page's stop button ends both.
"""

from __future__ import annotations

import html
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from mminstruct.demo import compare_layout
from mminstruct.demo.chat_room import EMPTY_BOX, FRAME_SECONDS, LONG_ANSWER, WAIT_SECONDS
from mminstruct.demo.chat_state import new_id, refuse
from mminstruct.demo.compare_layout import NO_FILE, SIDES, VERDICTS, head, note
from mminstruct.demo.display import messages, problem, status_line
from mminstruct.demo.match import Match, Seat
from mminstruct.demo.rooms import QUICK, STOP, PageContext, streams, tab_of
from mminstruct.demo.settings import read
from mminstruct.demo.talk import require_short
from mminstruct.demo.visitors import Guests, Run
from mminstruct.demo.votes import Contestant, Verdict, VoteFile, label, told
from mminstruct.errors import ConfigError, MminstructError
from mminstruct.serving.chat import Reply

log = logging.getLogger("mminstruct.demo")

Update = tuple[Any, ...]  # heads, chats, statuses, text box, vote buttons, tally


class SideBySide:
    """As `Room`. `votes` is where votes are kept; None switches voting off."""

    title, name = "Side by side", "side-by-side"

    def __init__(self, context: PageContext, votes: VoteFile | None = None) -> None:
        self.context = context
        self.votes = votes
        self.matches = Guests(lambda: Match(context.models, context.framing), forgotten=self._forgotten)

    def build(self) -> None:
        parts = compare_layout.build(self.context, self.votes is not None)
        everything = [*parts.heads, *parts.chats, *parts.statuses, parts.box, *parts.votes, parts.tally]
        parts.box.submit(self.send, [parts.box, *parts.asked], **streams(everything))
        parts.retry.click(self.retry, None, **streams(everything))
        parts.box.stop(self.stop, None, None, **STOP)
        parts.clear.click(self.clear, None, everything, **QUICK)
        for chat in parts.chats:
            chat.clear(self.clear, None, everything, **QUICK)
        for verdict, button in zip(VERDICTS, parts.votes, strict=False):  # no buttons where votes are off
            button.click(self._voter(verdict), None, everything, **QUICK)

    def gone(self, tab: str) -> None:
        self.matches.gone(tab)

    def _forgotten(self, tab: str) -> None:
        self.context.uploads.left(_sender(tab))

    # ---- what visitors do ------------------------------------------------------------------------------------------

    def send(self, request: gr.Request, message: dict[str, Any], *values: Any) -> Iterator[Update]:
        """A question to both."""
        match = self.matches.get(tab_of(request))

        def ask() -> list[Reply]:
            text = str(message["text"])
            require_short(text)
            first, second, hide = self._contestants(values)
            if match.begun and {first.key, second.key} != {seat.contestant.key for seat in match.seats}:
                gr.Info("Models and settings stay those of the first question; clear both to use the new ones.")
            files = [Path(path) for path in message["files"]]
            sender = _sender(tab_of(request))
            return match.ask(text, files, self.context.uploads, sender, first, second, hide)

        yield from self._begin(match, ask, EMPTY_BOX)

    def retry(self, request: gr.Request) -> Iterator[Update]:
        """Answer the last question again, on both sides."""
        match = self.matches.get(tab_of(request))
        yield from self._begin(match, match.retry, None)

    def stop(self, request: gr.Request) -> None:
        """Stop both answers; their handler then shows what there is of them."""
        self.matches.get(tab_of(request)).stop()

    def clear(self, request: gr.Request) -> Update:
        match = self.matches.get(tab_of(request))
        match.forget()
        return self._state(match)

    def _voter(self, verdict: Verdict) -> Callable[[gr.Request], Update]:
        def vote(request: gr.Request) -> Update:
            match = self.matches.get(tab_of(request))
            try:
                if self.votes is None:
                    raise ConfigError("votes are off; start the page with a file for them")
                match.vote(verdict, self.votes)
            except MminstructError as error:
                refuse(error)
            return self._state(match)

        return vote

    def _contestants(self, values: Sequence[Any]) -> tuple[Contestant, Contestant, bool]:
        """Who is asked, out of what the browser sent."""
        models, hide, fields = values[:2], values[2], values[3:]
        found = []
        for number, model in enumerate(models):
            if not isinstance(model, str):
                raise ConfigError("no model is chosen; choose two")
            half = len(fields) // 2
            settings, system = read(fields[number * half : (number + 1) * half])
            self.context.models[model]  # one that there is
            found.append(Contestant(model=model, settings=settings, system=system))
        return found[0], found[1], bool(hide) and self.votes is not None

    # ---- two answers -----------------------------------------------------------------------------------------------

    def _begin(self, match: Match, ask: Callable[[], list[Reply]], value: dict[str, Any] | None) -> Iterator[Update]:
        try:
            replies = ask()
        except MminstructError as error:
            refuse(error)
            yield self._state(match, keep_box=True)
            return
        yield from self._stream(match, replies, value)

    def _stream(self, match: Match, replies: list[Reply], value: dict[str, Any] | None) -> Iterator[Update]:
        match.current = run = Run()
        seats = match.seats
        try:
            yield self._state(match, replies, value)
            drawn = time.monotonic()
            while match.current is run and any(not reply.ended for reply in replies):
                new = [self._step(seat, reply) for seat, reply in zip(seats, replies, strict=True)]
                length = sum(len(reply.turn.answer or "") for reply in replies)
                pause = FRAME_SECONDS * (1 + length / LONG_ANSWER) if any(new) else WAIT_SECONDS
                if time.monotonic() - drawn >= pause:
                    yield self._frame(match, replies)
                    drawn = time.monotonic()
        finally:
            # Also when Gradio closes this generator because the visitor is gone.
            for reply in replies:
                reply.close()
            if match.current is run:
                match.current = None
        yield self._state(match)

    def _step(self, seat: Seat, reply: Reply) -> bool:
        """Take what one side has made meanwhile; whether there was anything."""
        new, until = False, time.monotonic() + FRAME_SECONDS / 2
        try:
            while not reply.ended and (left := until - time.monotonic()) > 0 and reply.wait(left) is not None:
                new = True
            return new
        except Exception as error:
            shown = problem(error, new_id())
            seat.visitor.problems[reply.turn] = shown
            expected = isinstance(error, MminstructError)
            log.error("%s: no answer: %s", shown.error_id, error, exc_info=None if expected else error)
            return True

    # ---- what is shown ---------------------------------------------------------------------------------------------

    def _state(
        self,
        match: Match,
        replies: Sequence[Reply] = (),
        value: dict[str, Any] | None = None,
        keep_box: bool = False,
    ) -> Update:
        """All of it."""
        answering = match.current is not None
        buttons: dict[str, Any] = {"submit_btn": not answering, "stop_btn": answering}
        if value is not None and not keep_box:
            buttons["value"] = value
        can_vote = match.can_vote
        votes = [
            gr.update(interactive=can_vote, variant="primary" if match.voted == verdict else "secondary")
            for verdict in (VERDICTS if self.votes is not None else ())
        ]
        return (*self._heads(match), *self._sides(match, replies), gr.update(**buttons), *votes, self._tally(match))

    def _frame(self, match: Match, replies: Sequence[Reply]) -> Update:
        """What changes while answers stream."""
        votes = len(VERDICTS) if self.votes is not None else 0
        skip: Any = gr.skip()
        return (skip, skip, *self._sides(match, replies), *[skip] * (2 + votes))

    def _sides(self, match: Match, replies: Sequence[Reply]) -> list[Any]:
        """Both chats' messages, then both status lines."""
        if not match.seats:
            return [[], [], status_line(None), status_line(None)]
        shown, lines = [], []
        for number, seat in enumerate(match.seats):
            turns = seat.visitor.chat.turns
            ahead = replies[number].position if number < len(replies) else 0
            shown.append(messages(turns, seat.visitor.problems))
            lines.append(status_line(turns[-1].usage if turns else None, ahead))
        return [*shown, *lines]

    def _heads(self, match: Match) -> list[str]:
        if not match.seats:
            return [head(side.capitalize()) for side in SIDES]
        left, right = (seat.contestant for seat in match.seats)
        names = [label(left, right), label(right, left)] if match.named else ["hidden until the vote"] * 2
        return [head(f"{side.capitalize()}: {html.escape(name)}") for side, name in zip(SIDES, names, strict=True)]

    def _tally(self, match: Match) -> str:
        if self.votes is None:
            return note(NO_FILE)
        if not match.seats:
            return note("")
        if not match.named:
            return note("The names are shown after the vote.")
        left, right = (seat.contestant for seat in match.seats)
        name, other = html.escape(label(left, right)), html.escape(label(right, left))
        counts = html.escape(told(self.votes.tally(left, right)))
        thanks = f"Your vote is kept ({VERDICTS[match.voted].lower()}). " if match.voted is not None else ""
        return note(f"{thanks}<b>{name}</b> against <b>{other}</b>: {counts}")


def _sender(tab: str) -> str:
    """Whose uploads a tab's are here; in another room it is another sender, who may hold the same files."""
    return f"{SideBySide.name}/{tab}"
