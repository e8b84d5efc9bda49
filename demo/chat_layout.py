"""What stands in the tab "Chat": the components, with their ids and labels; `chat_room` says what they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from mminstruct.demo.display import status_line
from mminstruct.demo.examples import Example
from mminstruct.demo.flags import MAX_REASON, VERDICTS
from mminstruct.demo.marks import MEASURES
from mminstruct.demo.rooms import PageContext
from mminstruct.demo.seen_view import EMPTY
from mminstruct.demo.settings import SettingsPanel
from mminstruct.demo.talk import chatbot, question_box
from mminstruct.demo.uploads import MEDIA_TYPES

PLACEHOLDER = """
## Ask about pictures and videos
Add one or several with the paper clip, paste or drop them, then type a question.
"""


@dataclass(frozen=True)
class SeenParts:
    """The panel "What the model saw"."""

    panel: gr.Accordion
    words: gr.Checkbox
    measure: gr.Dropdown
    view: gr.HTML


@dataclass(frozen=True)
class TransferParts:
    """The panel "Export and import"."""

    export: gr.Button
    file: gr.DownloadButton
    load: gr.UploadButton


@dataclass(frozen=True)
class FlagParts:
    """The panel "Flag"."""

    verdict: gr.Radio
    reason: gr.Textbox
    send: gr.Button
    told: gr.HTML


@dataclass(frozen=True)
class ChatParts:
    """The components that events read and write."""

    chat: gr.Chatbot
    box: gr.MultimodalTextbox
    status: gr.HTML
    model: gr.Dropdown
    facts: gr.HTML
    settings: list[Any]
    seen: SeenParts
    transfer: TransferParts
    flag: FlagParts | None

    @property
    def asked(self) -> list[Any]:
        """What every question takes along: the model's name, then the settings."""
        return [self.model, *self.settings]


def build(context: PageContext, examples: Sequence[Example]) -> ChatParts:
    """Put the components where they stand: the talk on the left, what else there is on the right."""
    names = list(context.models)
    with gr.Row(elem_id="chat-room", equal_height=False):
        with gr.Column(scale=5, min_width=320, elem_id="talk"):
            chat = _chatbot(examples)
            box = question_box(
                "question", "Your question", "Ask about pictures and videos …", MEDIA_TYPES, max_lines=8, autofocus=True
            )
            status = gr.HTML(status_line(None), elem_id="status", padding=False)
        with gr.Column(scale=2, min_width=320, elem_id="side"):
            model = gr.Dropdown(
                names,
                value=names[0],
                label="Model",
                info="The chat goes on with another one.",
                elem_id="model",
                visible=len(names) > 1,
                filterable=False,
            )
            facts = gr.HTML("", elem_id="model-facts", visible=len(names) > 1, padding=False)
            with gr.Accordion("Settings", open=False, elem_id="settings"):
                settings = SettingsPanel(_longest(context), context.framing.system).build()
            seen = _seen()
            transfer = _transfer()
            flag = _flag() if context.flags is not None else None
    return ChatParts(chat, box, status, model, facts, settings, seen, transfer, flag)


def _longest(context: PageContext) -> int | None:
    """The longest context of all models."""
    lengths = [engine.context_length for engine in context.models.values()]
    known = [length for length in lengths if length is not None]
    return max(known) if len(known) == len(lengths) else None


def _chatbot(examples: Sequence[Example]) -> gr.Chatbot:
    chat = chatbot(
        "chat",
        "Chat",
        PLACEHOLDER,
        scale=1,
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
        # Of a question with media in one bubble Gradio cannot send the edited text: it takes the first medium for it.
        group_consecutive_messages=False,
    )
    chat.keep_in_cache |= chat.temp_files  # the examples' pictures do not grow old
    return chat


def _seen() -> SeenParts:
    with gr.Accordion("What the model saw", open=False, elem_id="seen") as panel:
        with gr.Row():
            words = gr.Checkbox(
                False, label="Words", info="mark words of the answer", elem_id="seen-words", min_width=140
            )
            measure = gr.Dropdown(
                list(MEASURES),
                value=next(iter(MEASURES)),
                label="Boxes",
                info="what their numbers are",
                elem_id="seen-boxes",
                filterable=False,
                min_width=140,
            )
        view = gr.HTML(EMPTY, elem_id="seen-view", padding=False)
    return SeenParts(panel, words, measure, view)


def _transfer() -> TransferParts:
    with gr.Accordion("Export and import", open=False, elem_id="transfer"):
        gr.HTML('<p class="mm-note">A zip file with the conversation and its media: training data.</p>', padding=False)
        with gr.Row():
            export = gr.Button("Export", elem_id="export", size="sm", min_width=100)
            load = gr.UploadButton(
                "Import", file_types=[".zip"], file_count="single", elem_id="import", size="sm", min_width=100
            )
        file = gr.DownloadButton("Conversation", elem_id="export-file", visible="hidden")
    return TransferParts(export, file, load)


def _flag() -> FlagParts:
    with gr.Accordion("Flag the answer", open=False, elem_id="flag"):
        gr.HTML(
            '<p class="mm-note">Flagging writes this conversation, its pictures and videos, your reason and the time '
            "to a folder of whoever runs this page. Nothing is kept of who you are. Without it nothing is kept.</p>",
            padding=False,
        )
        verdicts = list(VERDICTS)
        verdict = gr.Radio(verdicts, value=verdicts[1], label="The last answer is", elem_id="flag-verdict")
        reason = gr.Textbox(label="Reason", lines=2, max_lines=5, max_length=MAX_REASON, elem_id="flag-reason")
        send = gr.Button("Flag", elem_id="flag-send", size="sm")
        told = gr.HTML("", elem_id="flag-told", padding=False)
    return FlagParts(verdict, reason, send, told)
