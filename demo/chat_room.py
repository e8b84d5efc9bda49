"""The tab "Chat": what happens when a visitor sends, stops, retries, edits, undoes or clears.

Every handler answers with the whole state in one order: the chat's messages, the text box, the status line. The
server's turns are the truth; the page only shows them. An answer is stopped through its `Run`, never by killing a
Gradio event, so the part that was made is kept and the buttons always come back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from mminstruct.demo import chat_layout
from mminstruct.demo.chat_panels import ChatPanels
from mminstruct.demo.chat_state import Update, new_id, page_state, refuse, shown_messages
from mminstruct.demo.display import facts_line, problem, status_line, turn_at, typed
from mminstruct.demo.examples import Example
from mminstruct.demo.rooms import QUICK, STOP, PageContext, streams, tab_of
from mminstruct.demo.settings import read
from mminstruct.demo.talk import require_short
from mminstruct.demo.uploads import Shown
from mminstruct.demo.visitors import Run, Visitor, Visitors
from mminstruct.errors import ConfigError, DataError, MminstructError
from mminstruct.serving.chat import Reply
from mminstruct.serving.settings import GenerationSettings

log = logging.getLogger("mminstruct.demo")

FRAME_SECONDS = 0.05
WAIT_SECONDS = 0.25  # between two looks at the queue
LONG_ANSWER = 10_000  # characters after which the pause between two frames is doubled

EMPTY_BOX: dict[str, Any] = {"text": "", "files": []}


class ChatRoom:
    """As `Room`. `examples` are offered while the chat is empty."""

    title, name = "Chat", "chat"

    def __init__(self, context: PageContext, examples: Sequence[Example]) -> None:
        self.context = context
        self.visitors = Visitors(context.models, context.framing, forgotten=context.uploads.left)
        self._examples = examples
        self._panels = ChatPanels(context, self.visitors)

    def build(self) -> None:
        self.parts = parts = chat_layout.build(self.context, self._examples)
        everything = [parts.chat, parts.box, parts.status]
        answered = [
            parts.box.submit(self.send, [parts.box, *parts.asked], **streams(everything)),
            parts.chat.example_select(self.send_example, parts.asked, **streams(everything)),
            parts.chat.retry(self.retry, parts.asked, **streams(everything)),
            parts.chat.edit(self.edit, parts.asked, **streams(everything)),
        ]
        parts.box.stop(self.stop, None, None, **STOP)
        parts.chat.undo(self.undo, None, everything, **QUICK)
        parts.chat.clear(self.clear, None, everything, **QUICK)
        parts.model.change(self.describe, parts.model, parts.facts, **QUICK)
        self._panels.connect(parts, answered)

    def choose(self, request: gr.Request) -> tuple[Any, str]:
        """The model that the page's address asks for (`?model=NAME`), or the first; and what is known of it."""
        name = request.query_params.get("model") or self.context.models.first
        try:
            return gr.update(value=name), self.describe(name)
        except ConfigError as error:
            refuse(error)
            return gr.skip(), self.describe(self.context.models.first)

    def describe(self, model: str) -> str:
        return facts_line(self.context.models[model].facts)

    def gone(self, tab: str) -> None:
        self._panels.gone(tab)
        self.visitors.gone(tab)

    # ---- what visitors do ------------------------------------------------------------------------------------------

    def send(self, request: gr.Request, message: dict[str, Any], model: str, *values: Any) -> Iterator[Update]:
        """A question from the text box."""
        files = [Path(path) for path in message["files"]]
        yield from self._ask(tab_of(request), message["text"], files, model, values)

    def send_example(self, request: gr.Request, chosen: gr.SelectData, model: str, *values: Any) -> Iterator[Update]:
        """One of the examples; the browser says which one, never which files."""
        example = self._examples[int(chosen.index)]
        yield from self._ask(tab_of(request), example.question, list(example.files), model, values)

    def retry(self, request: gr.Request, model: str, *values: Any) -> Iterator[Update]:
        """Answer the last question again."""
        visitor = self.visitors.get(tab_of(request))
        if not visitor.chat.turns:
            yield self._state(visitor)
            return

        def again(settings: GenerationSettings, run: Run) -> Reply:
            return visitor.chat.retry(settings, run.cancel)

        yield from self._begin(visitor, model, values, again)

    def edit(self, request: gr.Request, edited: gr.EditData, model: str, *values: Any) -> Iterator[Update]:
        """An earlier question in other words: what followed it is dropped, and it is answered anew."""
        visitor = self.visitors.get(tab_of(request))
        message = edited.index[0] if isinstance(edited.index, list | tuple) else edited.index
        number = turn_at(visitor.chat.turns, visitor.problems, int(message))

        def ask(settings: GenerationSettings, run: Run) -> Reply:
            if number is None:
                raise DataError("the question that was edited is not in this chat any more; type it again")
            text = typed(str(edited.value))
            require_short(text)
            return visitor.chat.edit(number, text, settings, run.cancel)

        yield from self._begin(visitor, model, values, ask)

    def stop(self, request: gr.Request) -> None:
        """Stop the answer; its own handler then shows what there is of it."""
        self.visitors.get(tab_of(request)).stop()

    def undo(self, request: gr.Request) -> Update:
        """Take the last question back into the text box."""
        visitor = self.visitors.get(tab_of(request))
        visitor.leave()
        turn = visitor.chat.undo()
        if turn is None:
            return self._state(visitor)
        visitor.taken_back = turn  # holds its files, which are in the text box now
        files = [str(path) for path in turn.attachment.files] if isinstance(turn.attachment, Shown) else []
        return self._state(visitor, value={"text": turn.text, "files": files})

    def clear(self, request: gr.Request) -> Update:
        visitor = self.visitors.get(tab_of(request))
        visitor.forget()
        return self._state(visitor)

    # ---- one answer ------------------------------------------------------------------------------------------------

    def _ask(self, tab: str, text: str, files: Sequence[Path], model: str, values: Sequence[Any]) -> Iterator[Update]:
        visitor = self.visitors.get(tab)

        def ask(settings: GenerationSettings, run: Run) -> Reply:
            require_short(text)
            media, shown = self.context.uploads.open(files, visitor.chat.engine.frame_sampling, tab)
            visitor.require_room(media)
            return visitor.chat.ask(text, media, settings, run.cancel, attachment=shown)

        yield from self._begin(visitor, model, values, ask, value=EMPTY_BOX)

    def _begin(
        self,
        visitor: Visitor,
        model: str,
        values: Sequence[Any],
        ask: Callable[[GenerationSettings, Run], Reply],
        value: dict[str, Any] | None = None,
    ) -> Iterator[Update]:
        """Ask this model with these settings, and stream the answer; a question that is refused changes nothing."""
        run = Run()
        try:
            settings, system = read(values)
            if not isinstance(model, str):
                raise ConfigError("no model is chosen; choose one")
            visitor.chat.engine = self.context.models[model]
            visitor.chat.framing = replace(self.context.framing, system=system)
            reply = ask(settings, run)
        except MminstructError as error:
            # The question is still in the text box, for the visitor to mend.
            refuse(error)
            yield self._messages(visitor), gr.skip(), gr.skip()
            return
        shown = reply.turn.attachment
        if isinstance(shown, Shown):
            shown.model = model
        visitor.taken_back = None
        yield from self._stream(visitor, run, reply, value)

    def _stream(self, visitor: Visitor, run: Run, reply: Reply, value: dict[str, Any] | None) -> Iterator[Update]:
        turn = reply.turn
        visitor.begin(run)
        try:
            yield self._state(visitor, answering=True, value=value, position=reply.position)
            drawn = time.monotonic()
            while not reply.ended and visitor.current is run:
                waits = turn.usage is not None and turn.usage.finish_reason == "waiting"
                piece = reply.wait(WAIT_SECONDS if waits else FRAME_SECONDS)
                # The browser draws the whole answer each time, so a long one is drawn less often.
                pause = WAIT_SECONDS if piece is None else FRAME_SECONDS * (1 + len(turn.answer or "") / LONG_ANSWER)
                if time.monotonic() - drawn >= pause:
                    line = status_line(turn.usage, reply.position)
                    yield gr.skip() if piece is None else self._messages(visitor), gr.skip(), line
                    drawn = time.monotonic()
        except Exception as error:
            # Whatever it is: a failed answer must not leave the page without its buttons.
            told = problem(error, new_id())
            visitor.problems[turn] = told
            expected = isinstance(error, MminstructError)
            log.error("%s: no answer: %s", told.error_id, error, exc_info=None if expected else error)
        finally:
            # Also when Gradio closes this generator because the visitor is gone.
            run.cancel.set()
            reply.close()
            visitor.end(run)
        # An overtaken answer ends with the page's state too: a frame of it may have arrived after what overtook it.
        yield self._state(visitor, answering=visitor.current is not None)

    def _messages(self, visitor: Visitor) -> list[dict[str, Any]]:
        return shown_messages(visitor, self.context)

    def _state(
        self, visitor: Visitor, answering: bool = False, value: dict[str, Any] | None = None, position: int = 0
    ) -> Update:
        return page_state(visitor, self.context, answering, value, position)
