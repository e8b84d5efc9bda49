"""What stands in the tab "Tools": the components with their ids; `tools` says what they do."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from mminstruct.demo.display import status_line
from mminstruct.demo.rooms import PageContext
from mminstruct.demo.settings import SettingsPanel
from mminstruct.demo.talk import chatbot, question_box
from mminstruct.demo.uploads import IMAGE_TYPES
from mminstruct.serving.tool_process import ToolCard
from mminstruct.serving.tools import example

PLACEHOLDER = """
## Ask, and let tools look
A model that was trained to call tools does so by itself; for any other one you can run them by hand.
"""

CSS = """
#tools-talk, #tools-side { gap: 8px !important; }
#tools-talk { height: calc(100dvh - var(--mm-top)); flex-wrap: nowrap !important; }
#tools-talk > * { flex-shrink: 0; }
#tools-side { max-height: calc(100dvh - var(--mm-top)); overflow-y: auto; flex-wrap: nowrap !important; }
#tools-side > * { flex-shrink: 0; }
#tools-chat { flex: 1 1 0 !important; height: auto !important; min-height: 240px !important; border-radius: 14px;
  border: 1px solid var(--border-color-primary) !important; }
#tools-chat .image-frame img { min-height: 64px; max-height: 260px; max-width: 100%; width: auto; object-fit: contain;
  border-radius: 10px; }
#tools-chat .placeholder { text-align: center; padding: 0 16px; }
#tools-chat .message-row { margin-top: 8px; margin-bottom: 4px; }
#tools-chat button[aria-label="Share"], #tools-chat .download-link { display: none; }
.form:has(> #tools-question) { border-radius: 14px; border: 1px solid var(--border-color-primary); }
#tools-chat pre, #tools-chat pre code, #tools-result pre, #tools-result pre code { white-space: pre-wrap;
  overflow-wrap: anywhere; }
#tools-by-hand, #tools-settings { border-radius: 14px; border: 1px solid var(--border-color-primary) !important; }
#tools-side button:focus-visible { outline: 2px solid var(--color-accent); outline-offset: 2px; }
@media (max-width: 760px) {
  #tools-talk { height: calc(100dvh - var(--mm-top)); min-width: 0 !important; flex-basis: 100% !important; }
  #tools-side { max-height: none; overflow-y: visible; min-width: 0 !important; flex-basis: 100% !important; }
}
"""


@dataclass(frozen=True)
class ToolParts:
    """The components that events read and write.

    Attributes:
        tool, arguments, about, run, feed, result, gallery: of the panel in which a person runs a tool.
    """

    chat: gr.Chatbot
    box: gr.MultimodalTextbox
    status: gr.HTML
    model: gr.Dropdown
    settings: list[Any]
    tool: gr.Dropdown
    arguments: gr.Textbox
    about: gr.HTML
    run: gr.Button
    feed: gr.Button
    result: gr.Markdown
    gallery: gr.Gallery

    @property
    def asked(self) -> list[Any]:
        """What every question takes along: the model's name, then the settings."""
        return [self.model, *self.settings]


def build(context: PageContext, tools: Mapping[str, ToolCard], missing: Sequence[str]) -> ToolParts:
    """Put the components where they stand."""
    names = list(context.models)
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320, elem_id="tools-talk"):
            chat = chatbot("tools-chat", "Chat with tools", PLACEHOLDER, scale=1)
            box = question_box("tools-question", "Your question", "Ask about a picture …", IMAGE_TYPES)
            status = gr.HTML(status_line(None), elem_id="tools-status", padding=False)
        with gr.Column(scale=2, min_width=320, elem_id="tools-side"):
            model = gr.Dropdown(
                names,
                value=names[0],
                label="Model",
                elem_id="tools-model",
                visible=len(names) > 1,
                filterable=False,
            )
            with gr.Accordion("Run a tool by hand", open=True, elem_id="tools-by-hand"):
                first = next(iter(tools))
                tool = gr.Dropdown(list(tools), value=first, label="Tool", elem_id="tools-tool", filterable=False)
                about = gr.HTML(does(tools[first]), padding=False)
                arguments = gr.Textbox(
                    example(tools[first]),
                    label="Arguments",
                    info="JSON; boxes are left, top, right, bottom in shares of the picture, 0 to 1",
                    lines=2,
                    max_lines=6,
                    max_length=2000,
                    elem_id="tools-arguments",
                )
                with gr.Row():
                    run = gr.Button("Run on the picture", size="sm", min_width=110, elem_id="tools-run")
                    feed = gr.Button(
                        "Give it to the model", size="sm", min_width=110, interactive=False, elem_id="tools-feed"
                    )
                result = gr.Markdown(elem_id="tools-result", sanitize_html=True)
                gallery = gr.Gallery(
                    visible=False,
                    label="What the tool saw",
                    show_label=False,
                    columns=1,
                    height=280,
                    object_fit="contain",
                    buttons=[],
                    elem_id="tools-gallery",
                )
                for reason in missing:
                    gr.HTML(f'<p class="mm-line">Not there: {html.escape(reason)}</p>', padding=False)
            with gr.Accordion("Settings", open=False, elem_id="tools-settings"):
                lengths = [engine.context_length or 4096 for engine in context.models.values()]
                settings = SettingsPanel(max(lengths), context.framing.system, "tools-").build()
    return ToolParts(chat, box, status, model, settings, tool, arguments, about, run, feed, result, gallery)


def does(card: ToolCard) -> str:
    """HTML of what a tool does."""
    return f'<p class="mm-line">It {html.escape(card.does)}.</p>'


def line(text: str) -> str:
    """HTML of the status line with a text of one's own."""
    return f'<div class="mm-status" role="status" aria-live="off"><span>{html.escape(text)}</span></div>'
