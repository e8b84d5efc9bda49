"""The tab "Tools": a model's thoughts and calls of tools are shown, run and answered; a person may run tools as well.

The loop is `mminstruct.serving.tools.ToolChat`; this file shows it. What a person ran waits beside the chat until it is
given to the model or another tool is run.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import gradio as gr

from mminstruct.demo import tools_layout
from mminstruct.demo.chat_room import EMPTY_BOX, FRAME_SECONDS, LONG_ANSWER
from mminstruct.demo.chat_state import new_id, refuse
from mminstruct.demo.display import problem, status_line
from mminstruct.demo.rooms import QUICK, STOP, PageContext, streams, tab_of
from mminstruct.demo.settings import read
from mminstruct.demo.talk import require_short
from mminstruct.demo.tools_display import listed, marked, messages
from mminstruct.demo.uploads import Folder, Shown, save_picture
from mminstruct.demo.visitors import Guests, Run, Visitor
from mminstruct.errors import ConfigError, DataError, MminstructError
from mminstruct.serving.chat import ChatSession, Turn
from mminstruct.serving.settings import GenerationSettings
from mminstruct.serving.tools import Result, Toolbox, ToolChat, example

log = logging.getLogger("mminstruct.demo")

Update = tuple[Any, ...]  # messages, text box, status line, button, result, its pictures


class Bench:
    """What the room keeps of one tab: the chat with tools, what runs, and a result that was not given to it yet."""

    def __init__(self, context: PageContext, tools: Toolbox) -> None:
        self._uploads = context.uploads
        self.visitor = Visitor(ChatSession(context.models[context.models.first], context.framing))
        self.talk = ToolChat(self.visitor.chat, tools)
        self.pending: Result | None = None
        self._files: WeakKeyDictionary[Result, list[Path]] = WeakKeyDictionary()

    def stop(self) -> None:
        self.visitor.stop()

    def forget(self) -> None:
        self.visitor.forget()
        self.pending = None
        self.talk.stopped = ""
        self._files.clear()

    def pictures(self, result: Result) -> list[Path]:
        """Files of the pictures that show a result; drawn once."""
        if result not in self._files:
            self._files[result] = []
            folders = self.visitor.folders
            for picture, name in marked(result):
                folder: Folder = self._uploads.new_folder("tool")
                folders[folder.path.name] = folder
                self._files[result].append(save_picture(picture, folder.path, name))
        return self._files[result]


class ToolRoom:
    """As `Room`."""

    title, name = "Tools", "tools"

    def __init__(self, context: PageContext, tools: Toolbox) -> None:
        self.context = context
        self.tools = tools
        self.benches = Guests(lambda: Bench(context, tools), forgotten=self._forgotten)

    def build(self) -> None:
        parts = tools_layout.build(self.context, self.tools, self.tools.missing)
        everything = [parts.chat, parts.box, parts.status, parts.feed, parts.result, parts.gallery]
        parts.box.submit(self.send, [parts.box, *parts.asked], **streams(everything))
        parts.chat.retry(self.retry, parts.asked, **streams(everything))
        parts.feed.click(self.feed, parts.asked, **streams(everything))
        parts.run.click(self.run, [parts.tool, parts.arguments], **streams(everything))
        parts.box.stop(self.stop, None, None, **STOP)
        parts.chat.undo(self.undo, None, everything, **QUICK)
        parts.chat.clear(self.clear, None, everything, **QUICK)
        parts.tool.input(self.choose, parts.tool, [parts.about, parts.arguments], **QUICK)

    def gone(self, tab: str) -> None:
        self.benches.gone(tab)

    def _forgotten(self, tab: str) -> None:
        self.context.uploads.left(_sender(tab))

    # ---- what visitors do ------------------------------------------------------------------------------------------

    def send(self, request: gr.Request, message: dict[str, Any], model: str, *values: Any) -> Iterator[Update]:
        """A question from the text box."""
        bench = self.benches.get(tab_of(request))

        def ask(settings: GenerationSettings, run: Run) -> Iterator[Turn]:
            text = str(message["text"])
            require_short(text)
            files = [Path(path) for path in message["files"]]
            sampling = bench.visitor.chat.engine.frame_sampling
            media, shown = self.context.uploads.open(files, sampling, _sender(tab_of(request)))
            bench.visitor.require_room(media)
            return bench.talk.ask(text, media, settings, run.cancel, shown)

        yield from self._begin(bench, model, values, ask, EMPTY_BOX)

    def retry(self, request: gr.Request, model: str, *values: Any) -> Iterator[Update]:
        """Answer the last question again, tools included."""
        bench = self.benches.get(tab_of(request))
        yield from self._begin(bench, model, values, lambda settings, run: bench.talk.retry(settings, run.cancel))

    def feed(self, request: gr.Request, model: str, *values: Any) -> Iterator[Update]:
        """Give the model what the person's tool found."""
        bench = self.benches.get(tab_of(request))

        def ask(settings: GenerationSettings, run: Run) -> Iterator[Turn]:
            if bench.pending is None:
                raise DataError("there is no tool's output to give; run a tool first")
            found = bench.talk.feed([bench.pending], settings, run.cancel)
            bench.pending = None
            return found

        yield from self._begin(bench, model, values, ask)

    def run(self, request: gr.Request, tool: str, arguments: str) -> Iterator[Update]:
        """Run a tool by hand; its result waits beside the chat."""
        bench = self.benches.get(tab_of(request))
        try:
            given = json.loads(str(arguments) or "{}")
            if not isinstance(given, dict):
                raise DataError('arguments are an object of names and values, as {"caption": "red circle"}')
            bench.pending = bench.talk.run(str(tool), given)
        except (ValueError, RecursionError):
            refuse(DataError('the arguments are no JSON; write them as {"caption": "red circle"}'))
        except MminstructError as error:
            refuse(error)
        yield self._state(bench)

    def choose(self, tool: str) -> tuple[str, str]:
        """What another tool does, and an example of its arguments."""
        if tool not in self.tools:
            return "", "{}"
        return tools_layout.does(self.tools[tool]), example(self.tools[tool])

    def stop(self, request: gr.Request) -> None:
        """Stop the answer or the tool; the handler then shows what there is."""
        self.benches.get(tab_of(request)).stop()

    def undo(self, request: gr.Request) -> Update:
        """Take the last question back into the text box, with all that followed."""
        bench = self.benches.get(tab_of(request))
        bench.visitor.leave()
        turn = bench.talk.undo()
        if turn is None:
            return self._state(bench)
        bench.visitor.taken_back = turn  # holds its files, which are in the text box now
        files = [str(path) for path in turn.attachment.files] if isinstance(turn.attachment, Shown) else []
        return self._state(bench, {"text": turn.text, "files": files})

    def clear(self, request: gr.Request) -> Update:
        bench = self.benches.get(tab_of(request))
        bench.forget()
        return self._state(bench)

    # ---- one question ----------------------------------------------------------------------------------------------

    def _begin(
        self,
        bench: Bench,
        model: str,
        values: Sequence[Any],
        ask: Callable[[GenerationSettings, Run], Iterator[Turn]],
        value: dict[str, Any] | None = None,
    ) -> Iterator[Update]:
        run = Run()
        try:
            settings, system = read(values)
            if not isinstance(model, str):
                raise ConfigError("no model is chosen; choose one")
            bench.visitor.chat.engine = self.context.models[model]
            bench.visitor.chat.framing = replace(self.context.framing, system=system)
            turns = ask(settings, run)
        except MminstructError as error:
            refuse(error)
            yield self._state(bench)
            return
        bench.visitor.taken_back = None
        yield from self._stream(bench, run, turns, value)

    def _stream(self, bench: Bench, run: Run, turns: Iterator[Turn], value: dict[str, Any] | None) -> Iterator[Update]:
        visitor = bench.visitor
        visitor.begin(run)
        last: Turn | None = None
        try:
            yield self._state(bench, value)
            drawn = 0.0
            for turn in turns:
                if visitor.current is not run:
                    break
                pause = FRAME_SECONDS * (1 + len(turn.answer or "") / LONG_ANSWER)
                if turn is not last or bench.talk.running or time.monotonic() - drawn >= pause:
                    yield self._state(bench)
                    drawn = time.monotonic()
                last = turn
        except Exception as error:
            # Whatever it is: a failed answer must not leave the page without its buttons.
            told = problem(error, new_id())
            if visitor.chat.turns:
                visitor.problems[visitor.chat.turns[-1]] = told
            expected = isinstance(error, MminstructError)
            log.error("%s: no answer: %s", told.error_id, error, exc_info=None if expected else error)
        finally:
            # Also when Gradio closes this generator because the visitor is gone.
            run.cancel.set()
            visitor.end(run)
        yield self._state(bench)

    def _state(self, bench: Bench, value: dict[str, Any] | None = None) -> Update:
        visitor = bench.visitor
        answering = visitor.current is not None
        buttons: dict[str, Any] = {"submit_btn": not answering, "stop_btn": answering}
        if value is not None:
            buttons["value"] = value
        turns = visitor.chat.turns
        line = status_line(turns[-1].usage if turns else None, begun=bool(turns))
        if bench.talk.running:
            line = tools_layout.line(f"Running {', '.join(bench.talk.running)}")
        elif bench.talk.stopped and not answering:
            line = tools_layout.line(f"Stopped: {bench.talk.stopped}.")
        pending = bench.pending
        shown = bench.pictures(pending) if pending is not None else []
        return (
            messages(turns, visitor.problems, bench.pictures),
            gr.update(**buttons),
            line,
            gr.update(interactive=pending is not None and not answering),
            listed(pending) if pending is not None else "",
            gr.update(value=[str(path) for path in shown], visible=bool(shown)),
        )


def _sender(tab: str) -> str:
    """Whose uploads a tab's are here; in another room it is another sender, who may hold the same files."""
    return f"{ToolRoom.name}/{tab}"
