"""A chat and the box for its questions as every tab has them: what is shown of an answer, and what may be sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from mminstruct.errors import DataError

MAX_TEXT = 100_000


def chatbot(name: str, label: str, placeholder: str, **more: Any) -> gr.Chatbot:
    """A chat that shows text and never markup of a model's or a visitor's own.

    Args:
        name: its id on the page.
        label: for screen readers.
        more: Gradio's own.
    """
    return gr.Chatbot(
        elem_id=name,
        label=label,
        show_label=False,
        layout="bubble",
        placeholder=placeholder,
        buttons=["copy"],
        sanitize_html=True,
        allow_tags=False,
        allow_file_downloads=False,
        feedback_options=None,
        **more,
    )


def question_box(
    name: str, label: str, placeholder: str, file_types: Sequence[str], max_lines: int = 6, autofocus: bool = False
) -> gr.MultimodalTextbox:
    """A box for a question with several files."""
    return gr.MultimodalTextbox(
        elem_id=name,
        label=label,
        show_label=False,
        placeholder=placeholder,
        file_types=list(file_types),
        file_count="multiple",
        sources=["upload"],
        max_lines=max_lines,
        max_plain_text_length=MAX_TEXT,
        autofocus=autofocus,
        submit_btn=True,
        stop_btn=False,
    )


def require_short(text: str) -> None:
    """Raises `DataError` for a question above the limit, which a call that the page did not make can have."""
    if len(text) > MAX_TEXT:
        raise DataError(f"the question has {len(text)} characters, above the limit of {MAX_TEXT}; shorten it")
