"""The chat page: its head, its tabs, and the models and uploads that they share.

Page ─▶ head, look
     └▶ rooms, one tab each: Chat (`chat_room`), and what else `_rooms` lists
"""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten

import gradio as gr

from mminstruct.demo.chat_room import ChatRoom
from mminstruct.demo.display import header
from mminstruct.demo.examples import draw_examples
from mminstruct.demo.rooms import MAX_WAITING, QUICK, PageContext, Room, tab_of
from mminstruct.demo.script import SCRIPT, TOGGLE
from mminstruct.demo.side_by_side import SideBySide
from mminstruct.demo.tools import ToolRoom
from mminstruct.demo.uploads import Uploads
from mminstruct.demo.votes import VoteFile
from mminstruct.media import Gate, GateLimits
from mminstruct.media.gate import DEFAULT_GATE_LIMITS
from mminstruct.serving.chat import Framing
from mminstruct.serving.models import Models
from mminstruct.serving.tools import Toolbox

__all__ = ["MAX_WAITING", "Page"]

# With a visitor go the files that were sent; of others, and in chats that go on for so long, old ones are deleted:
# looked at every ten minutes, at the age of four hours.
UPLOADS_LAST = (600, 4 * 3600)


class Page:
    """The page of some models.

    Args:
        folder: of the page's own files.
        uploads: where Gradio puts the files of visitors.
        flags: the folder for flagged conversations; None switches flagging off.
        max_file_size: what a single upload may have, in bytes; the files of one question have the gate's limit, or
            this where it is more.
        votes: the file for votes; None switches voting off.
        tools: what the tab "Tools" runs; None leaves it out.
    """

    def __init__(
        self,
        models: Models,
        framing: Framing | None,
        url: str,
        folder: Path,
        uploads: Path,
        flags: Path | None = None,
        max_file_size: int = 0,
        votes: VoteFile | None = None,
        tools: Toolbox | None = None,
    ) -> None:
        self.url = url
        self.models = models
        examples = folder / "examples"
        examples.mkdir()
        gate = Gate(GateLimits(max_bytes=max(max_file_size, DEFAULT_GATE_LIMITS.max_bytes)))
        self.context = PageContext(models, framing or Framing(), Uploads(uploads, [examples], gate), flags)
        self.chat = ChatRoom(self.context, draw_examples(examples))
        self.side_by_side = SideBySide(self.context, votes)
        self.rooms: list[Room] = [self.chat, self.side_by_side]
        if tools is not None:
            self.rooms.append(ToolRoom(self.context, tools))

    def build(self) -> gr.Blocks:
        with gr.Blocks(
            title="mminstruct" if len(self.models) > 1 else f"{self.models.first} · mminstruct",
            fill_height=True,
            analytics_enabled=False,
            delete_cache=UPLOADS_LAST,
        ) as blocks:
            with gr.Row(elem_id="head", equal_height=True):
                gr.HTML(self._header(), padding=False)
                look = gr.Button("Dark", elem_id="look", size="sm", scale=0, min_width=76)
            if len(self.rooms) == 1:
                self.rooms[0].build()
            else:
                with gr.Tabs(elem_id="tabs"):
                    for room in self.rooms:
                        with gr.Tab(room.title, id=room.name, elem_id=f"tab-{room.name}"):
                            room.build()
            look.click(None, None, None, js=TOGGLE, api_visibility="private")
            blocks.load(None, None, None, js=SCRIPT, api_visibility="private")
            if len(self.models) > 1:
                chosen = [self.chat.parts.model, self.chat.parts.facts]
                blocks.load(self.chat.choose, None, chosen, **(QUICK | {"queue": True}))  # only so it can tell an error
            blocks.unload(self._gone)
        return blocks

    def _header(self) -> str:
        several = len(self.models) > 1
        facts = [f"{len(self.models)} models"] if several else self.models[self.models.first].facts
        framing = self.context.framing
        for label, text in (("system", framing.system), ("instruction", framing.instruction)):
            facts += [f"{label}: {shorten(text, 90)}"] if text else []
        return header("mminstruct" if several else self.models.first, facts)

    def _gone(self, request: gr.Request) -> None:
        for room in self.rooms:
            room.gone(tab_of(request))
