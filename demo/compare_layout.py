"""What stands in the tab "Side by side": the components with their ids; `side_by_side` says what they do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from mminstruct.demo.display import status_line
from mminstruct.demo.rooms import PageContext
from mminstruct.demo.settings import SettingsPanel
from mminstruct.demo.talk import chatbot, question_box
from mminstruct.demo.uploads import MEDIA_TYPES
from mminstruct.demo.votes import Verdict

SIDES = ("left", "right")
VERDICTS: dict[Verdict, str] = {
    "left": "Left is better",
    "right": "Right is better",
    "tie": "Tie",
    "both bad": "Both are bad",
}
ONE_MODEL = (
    "Only one model is loaded, so it can be compared with itself under other settings. To compare two models, start "
    "the page with two folders: <code>mminstruct demo MODEL MODEL</code>"
)
NO_FILE = (
    "Votes are off: nothing is written. To keep votes, start the page with a file for them: "
    "<code>mminstruct demo MODEL MODEL --votes votes.jsonl</code>"
)
KEPT = (
    "A vote writes both conversations, their pictures, the models and settings into the file of this page. "
    "It writes nothing about you."
)

CSS = """
#compare-talk { height: calc(100dvh - var(--mm-top)); min-height: 560px; flex-wrap: nowrap !important;
  gap: 8px !important; }
#compare-talk > * { flex-shrink: 0; }
#compare-chats { flex: 1 1 0 !important; min-height: 280px; align-items: stretch !important; gap: 8px; }
#compare-chats > .column { gap: 4px !important; min-height: 0; flex-wrap: nowrap !important; }
#compare-chats > .column > .block { flex: none; }
#compare-chats > .column > #compare-left, #compare-chats > .column > #compare-right { flex: 1 1 0 !important;
  height: auto !important; min-height: 200px !important; border-radius: 14px;
  border: 1px solid var(--border-color-primary) !important; }
#compare-chats .image-frame img { min-height: 64px; max-height: 160px; max-width: 100%; width: auto;
  object-fit: contain; border-radius: 10px; }
#compare-chats .message-row { margin-top: 8px; margin-bottom: 4px; }
#compare-chats button[aria-label="Share"], #compare-chats .download-link { display: none; }
.mm-side { margin: 0; padding: 0 6px; font-size: .95rem; font-weight: 650; color: var(--body-text-color);
  overflow-wrap: anywhere; }
.mm-line { margin: 0; padding: 0 6px; font-size: .8rem; min-height: 1.4em; color: var(--body-text-color-subdued); }
.mm-line b { color: inherit; }
#compare-votes { gap: 6px; }
#compare-votes button:focus-visible { outline: 2px solid var(--color-accent); outline-offset: 2px; }
#compare-votes button.secondary:disabled { background: var(--background-fill-secondary); box-shadow: none; }
.form:has(> #compare-question) { border-radius: 14px; border: 1px solid var(--border-color-primary); }
#compare-settings { border-radius: 14px; border: 1px solid var(--border-color-primary) !important; }
#compare-hide input { border: 1px solid var(--body-text-color-subdued); }
@media (max-width: 760px) {
  #compare-talk { height: auto; }
  #compare-chats { flex: none !important; flex-direction: column; }
  #compare-chats > .column { flex: none !important; min-width: 0 !important; width: 100%; }
  #compare-chats > .column > #compare-left, #compare-chats > .column > #compare-right { flex: none !important;
    height: 38dvh !important; }
}
"""


@dataclass(frozen=True)
class CompareParts:
    """The components that events read and write.

    Attributes:
        heads, chats, statuses: left, then right.
        votes: the buttons in the order of `VERDICTS`; none where votes are off.
        asked: what the first question takes along: both models, whether names are hidden, both panels of settings.
    """

    heads: list[gr.HTML]
    chats: list[gr.Chatbot]
    statuses: list[gr.HTML]
    box: gr.MultimodalTextbox
    retry: gr.Button
    clear: gr.Button
    votes: list[gr.Button]
    tally: gr.HTML
    asked: list[Any]


def build(context: PageContext, votes: bool) -> CompareParts:
    """Put the components where they stand."""
    names = list(context.models)
    if len(names) == 1:
        gr.HTML(f'<p class="mm-line" id="compare-one">{ONE_MODEL}</p>', padding=False)
    heads, chats, statuses, buttons = [], [], [], []
    with gr.Column(elem_id="compare-talk"):
        with gr.Row(elem_id="compare-chats"):
            for side in SIDES:
                with gr.Column(min_width=300):
                    heads.append(gr.HTML(head(side.capitalize()), padding=False))
                    chats.append(chatbot(f"compare-{side}", f"{side.capitalize()} chat", "One question, two answers"))
                    statuses.append(gr.HTML(status_line(None), elem_id=f"compare-status-{side}", padding=False))
        box = question_box("compare-question", "Your question to both", "Ask both …", MEDIA_TYPES)
        with gr.Row(elem_id="compare-votes"):
            for verdict, text in VERDICTS.items() if votes else ():
                name = f"vote-{verdict.replace(' ', '-')}"
                buttons.append(gr.Button(text, size="sm", interactive=False, elem_id=name, min_width=110))
            retry = gr.Button("Regenerate", size="sm", variant="secondary", elem_id="compare-retry", min_width=110)
            clear = gr.Button("Clear both", size="sm", variant="secondary", elem_id="compare-clear", min_width=110)
        tally = gr.HTML(note("" if votes else NO_FILE), elem_id="compare-tally", padding=False)
    with gr.Accordion("Models and settings", open=False, elem_id="compare-settings"):
        gr.HTML(note("They count from the first question on, until the chats are cleared."), padding=False)
        hide = gr.Checkbox(
            False,
            label="Hide the names",
            info="sides are drawn by chance, names shown after the vote",
            visible=votes,
            elem_id="compare-hide",
        )
        choices: list[Any] = []
        fields: list[Any] = []
        with gr.Row():
            for number, place in enumerate(("First", "Second")):
                with gr.Column(min_width=300):
                    choices.append(
                        gr.Dropdown(
                            names,
                            value=names[min(number, len(names) - 1)],
                            label=f"{place} model",
                            elem_id=f"compare-model-{number + 1}",
                            filterable=False,
                        )
                    )
                    length = context.models[choices[-1].value].context_length
                    fields += SettingsPanel(length, context.framing.system, f"compare-{number + 1}-").build()
        if votes:
            gr.HTML(note(KEPT), padding=False)
    return CompareParts(heads, chats, statuses, box, retry, clear, buttons, tally, [*choices, hide, *fields])


def head(text: str) -> str:
    """HTML of the line above a chat; `text` is escaped by who calls."""
    return f'<h2 class="mm-side">{text}</h2>'


def note(text: str) -> str:
    """HTML of a small line of its own."""
    return f'<p class="mm-line" role="status" aria-live="polite">{text}</p>'
