"""What stands in the tab "Chat": the components, with their ids and labels; `chat_room` says what they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from mminstruct.demo.display import status_line
from mminstruct.demo.examples import Example
from mminstruct.demo.rooms import PageContext
from mminstruct.demo.settings import SettingsPanel
from mminstruct.demo.uploads import MEDIA_TYPES

MAX_TEXT = 100_000

PLACEHOLDER = """
## Ask about pictures and videos
Add one or several with the paper clip, paste or drop them, then type a question.
"""


@dataclass(frozen=True)
class ChatParts:
    """The components that events read and write."""

    chat: gr.Chatbot
    box: gr.MultimodalTextbox
    status: gr.HTML
    model: gr.Dropdown
    settings: list[Any]

    @property
    def asked(self) -> list[Any]:
        """What every question takes along: the model's name, then the settings."""
        return [self.model, *self.settings]


def build(context: PageContext, examples: Sequence[Example]) -> ChatParts:
    """Put the components where they stand."""
    names = list(context.models)
    lengths = [engine.context_length for engine in context.models.values()]
    chat = gr.Chatbot(
        elem_id="chat",
        label="Chat",
        show_label=False,
        scale=1,
        layout="bubble",
        placeholder=PLACEHOLDER,
        examples=[
            {
                "text": example.question,
                "display_text": example.title,
                "files": [str(file) for file in example.files],
                "icon": str(example.icon),
            }
            for example in examples
        ],
        editable="user",
        buttons=["copy"],
        sanitize_html=True,
        allow_tags=False,
        allow_file_downloads=False,
        feedback_options=None,
    )
    box = gr.MultimodalTextbox(
        elem_id="question",
        label="Your question",
        show_label=False,
        placeholder="Ask about pictures and videos …",
        file_types=list(MEDIA_TYPES),
        file_count="multiple",
        sources=["upload"],
        max_lines=8,
        max_plain_text_length=MAX_TEXT,
        autofocus=True,
        submit_btn=True,
        stop_btn=False,
    )
    status = gr.HTML(status_line(None), elem_id="status", padding=False)
    model = gr.Dropdown(
        names, value=names[0], label="Model", elem_id="model", visible=len(names) > 1, filterable=False, min_width=200
    )
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        limit = None if None in lengths else max(length for length in lengths if length is not None)
        settings = SettingsPanel(limit, context.framing.system).build()
    return ChatParts(chat, box, status, model, settings)
