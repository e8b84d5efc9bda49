"""What the panels beside the chat do: what the model saw, export and import, flags, which model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from mminstruct.demo.chat_layout import ChatParts
from mminstruct.demo.chat_state import page_state, refuse
from mminstruct.demo.flags import VERDICTS, Flags
from mminstruct.demo.marks import MEASURES
from mminstruct.demo.rooms import QUICK, PageContext, tab_of
from mminstruct.demo.seen import seen
from mminstruct.demo.seen_view import EMPTY, answer_html, seen_html
from mminstruct.demo.transfer import export, load
from mminstruct.demo.visitors import Visitor, Visitors
from mminstruct.errors import ConfigError, DataError, MminstructError

# How an event is wired that works for a while but asks no model.
_WORK: dict[str, Any] = {
    "concurrency_limit": 2,
    "concurrency_id": "work",
    "show_progress": "minimal",
    "api_visibility": "private",
}
_CLICK_DOWNLOAD = "() => document.querySelector('#export-file a, a#export-file, #export-file')?.click()"


class ChatPanels:
    """Handlers of the panels. `visitors` are the chat's."""

    def __init__(self, context: PageContext, visitors: Visitors) -> None:
        self.context = context
        self.visitors = visitors
        self._flags = Flags(context.flags) if context.flags is not None else None
        self._looking: set[str] = set()

    def connect(self, parts: ChatParts, answered: Sequence[Any]) -> None:
        """Wire the events; `answered` are those that end with an answer."""
        looks: list[Any] = [parts.seen.words, parts.seen.measure]
        parts.seen.panel.expand(self.look, looks, parts.seen.view, **_WORK)
        parts.seen.panel.collapse(self.look_away, None, None, **QUICK)
        for control in looks:
            control.change(self.look_again, looks, parts.seen.view, **_WORK)
        for event in answered:
            event.then(self.look_again, looks, parts.seen.view, **(_WORK | {"show_progress": "hidden"}))
        done = parts.transfer.export.click(self.export, None, parts.transfer.file, **_WORK)
        done.success(None, None, None, js=_CLICK_DOWNLOAD)
        everything = [parts.chat, parts.box, parts.status, parts.settings[-1]]
        parts.transfer.load.upload(self.load, [parts.transfer.load, parts.model], everything, **_WORK)
        if parts.flag is not None:
            said = [parts.flag.verdict, parts.flag.reason]
            parts.flag.send.click(self.flag, said, [parts.flag.told, parts.flag.reason], **_WORK)

    # ---- what the model saw ----------------------------------------------------------------------------------------

    def look(self, request: gr.Request, words: bool, measure: str) -> str:
        """The panel was opened."""
        tab = tab_of(request)
        self._looking.add(tab)
        return self._view(self.visitors.get(tab), bool(words), measure)

    def look_again(self, request: gr.Request, words: bool, measure: str) -> Any:
        """Something may have changed; of interest where the panel is open."""
        tab = tab_of(request)
        return self._view(self.visitors.get(tab), bool(words), measure) if tab in self._looking else gr.skip()

    def look_away(self, request: gr.Request) -> None:
        self._looking.discard(tab_of(request))

    def gone(self, tab: str) -> None:
        self._looking.discard(tab)

    def _view(self, visitor: Visitor, words: bool, measure: str) -> str:
        turns = visitor.chat.turns
        if not turns:
            return EMPTY
        try:
            if measure not in MEASURES:
                raise ConfigError(f"boxes are in {', '.join(MEASURES)}; choose one of them")
            found = seen(visitor.chat.engine, turns, visitor.chat.framing)
            folder = self.context.uploads.new_folder("seen")
            media = [medium for turn in turns for medium in turn.media if turn.counts or turn is turns[-1]]
            shown = answer_html(turns[-1].answer or "", media, MEASURES[measure], words, folder.path)
            shown += seen_html(found, folder.path)
        except MminstructError as error:
            refuse(error)
            return EMPTY
        visitor.folders["seen"] = folder
        return shown

    # ---- in and out ------------------------------------------------------------------------------------------------

    def export(self, request: gr.Request) -> Any:
        """The conversation as a file to download."""
        visitor = self.visitors.get(tab_of(request))
        try:
            folder = self.context.uploads.new_folder("export")
            path = export(visitor.chat.turns, visitor.chat.framing, folder.path)
        except MminstructError as error:
            refuse(error)
            raise gr.Error("", visible=False, print_exception=False) from None
        visitor.folders["export"] = folder
        return str(path)

    def load(self, request: gr.Request, archive: str, model: str) -> tuple[Any, Any, Any, Any]:
        """Go on from the conversation in a file."""
        visitor = self.visitors.get(tab_of(request))
        try:
            engine = self.context.models[str(model)]
            loaded = load(Path(archive), self.context.uploads, engine.frame_sampling, self.context.framing)
            held, visitor.chat.turns = visitor.chat.turns, []
            try:
                visitor.require_room([medium for turn in loaded.turns for medium in turn.media])
            except MminstructError:
                visitor.chat.turns = held
                raise
        except MminstructError as error:
            refuse(error)
            return gr.skip(), gr.skip(), gr.skip(), gr.skip()
        finally:
            self.context.uploads.discard(Path(archive))
        visitor.forget()
        visitor.chat.engine = engine
        visitor.chat.turns = loaded.turns
        visitor.chat.framing = replace(self.context.framing, system=loaded.system)
        return *page_state(visitor, self.context), loaded.system or ""

    # ---- flags -----------------------------------------------------------------------------------------------------

    def flag(self, request: gr.Request, verdict: str, reason: str) -> tuple[str, Any]:
        """Write the conversation down."""
        visitor = self.visitors.get(tab_of(request))
        try:
            if self._flags is None:
                raise DataError("this page takes no flags")
            if verdict not in VERDICTS:
                raise ConfigError("say how the answer is")
            self._flags.add(visitor.chat.turns, visitor.chat.framing, VERDICTS[verdict], str(reason or ""))
        except MminstructError as error:
            refuse(error)
            return "", gr.skip()
        return '<p class="mm-note" role="status">Flagged. Thank you.</p>', ""
