"""What the page says of turns, usage and errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mminstruct.demo.display import (
    as_markdown,
    header,
    messages,
    problem,
    status_line,
    turn_at,
    typed,
)
from mminstruct.demo.uploads import Shown, ShownMedium
from mminstruct.errors import CheckpointError, MediaError, MminstructError
from mminstruct.serving.chat import Turn
from mminstruct.serving.detokenizer import printable
from mminstruct.serving.request import Usage


def test_turns_become_messages_with_pictures_before_the_text() -> None:
    picture = ShownMedium("image", Path("/u/a.tif"), Path("/p/a.png"), "image 1")
    video = ShownMedium("video", Path("/u/b.mp4"), Path("/p/b.png"), "video 2: its 8 frames")
    turns = [
        Turn(
            "Same?",
            attachment=Shown(media=[picture, video], model="<m>"),
            answer="Yes",
            usage=Usage(finish_reason="end"),
        ),
        Turn("And now?", answer="", usage=Usage(finish_reason="running")),
    ]
    first, answer, second = messages(turns, {})
    assert first == {
        "role": "user",
        "content": [
            {"path": "/p/a.png", "alt_text": "image 1"},
            {"path": "/u/b.mp4", "alt_text": "b.mp4"},
            {"path": "/p/b.png", "alt_text": "video 2: its 8 frames"},
            {"type": "text", "text": "Same?"},
        ],
    }
    assert messages(turns, {}, named=True)[1]["content"][0]["text"] == "Yes\n\n*— &lt;m>*"
    assert [turn_at(turns, {}, number) for number in range(-1, 4)] == [None, 0, 0, 1, None]
    assert answer == {"role": "assistant", "content": [{"type": "text", "text": "Yes"}]}
    assert second["role"] == "user"


@pytest.mark.parametrize(
    ("reason", "told"),
    [("end", "an empty answer"), ("length", "an empty answer"), ("cancelled", "before the first word")],
)
def test_an_answer_without_text_is_said_to_be_so(reason: str, told: str) -> None:
    turn = Turn("?", answer="", usage=Usage(finish_reason=reason))
    assert told in messages([turn], {})[1]["content"][0]["text"]


def test_a_problem_stands_below_what_there_is_of_the_answer() -> None:
    turn = Turn("?", answer="So far", error=RuntimeError("x"), usage=Usage(finish_reason="error"))
    text = messages([turn], {turn: problem(RuntimeError("x"), "abc123")})[1]["content"][0]["text"]
    assert text.startswith("So far\n\n**Unexpected RuntimeError.**") and "`abc123`" in text


@pytest.mark.parametrize(
    ("error", "told", "hidden"),
    [
        (MediaError("the image is broken; send another"), "Media problem", "Traceback"),
        (CheckpointError("a thing; do this"), "Checkpoint problem", "Traceback"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried 20 GiB at 0x7f"), "Out of memory", "0x7f"),
        (MemoryError("secret"), "Out of memory", "secret"),
        (ValueError("secret"), "Unexpected ValueError", "secret"),
    ],
)
def test_errors_tell_class_cause_next_step_and_id(error: Exception, told: str, hidden: str) -> None:
    found = problem(error, "abc123")
    for text in (found.markdown(), found.html()):
        assert told in text and "abc123" in text and hidden not in text
    if isinstance(error, MminstructError):
        assert str(error)[1:] in found.html()


def test_a_name_in_an_error_is_no_markup() -> None:
    found = problem(MediaError("the file <img src=x onerror=alert(1)>.png is broken"), "abc123")
    assert "<img" not in found.html() and "<img" not in found.markdown()


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("**bold** and `code`", "**bold** and `code`"),
        ("a < b <image> </s>", "a &lt; b &lt;image> &lt;/s>"),
        ("![x](http://evil/x.png)", "!\\[x](http://evil/x.png)"),
        ("`<b>` <b>", "`<b>` &lt;b>"),
        ("```html\n<b>\n```\n<b>", "```html\n<b>\n```\n&lt;b>"),
        ("```html\n<b> is not yet", "```html\n<b> is not yet"),
        ("one ` alone <b>", "one ` alone &lt;b>"),
        ("\x1b[31mred\x00", "[31mred"),
        ("&lt;b> &amp; R&D &#60;", "&amp;lt;b> &amp;amp; R&D &amp;#60;"),
    ],
)
def test_markdown_keeps_formatting_and_loses_markup(text: str, markdown: str) -> None:
    assert as_markdown(text) == markdown
    assert typed(markdown) == printable(text)


def test_the_status_line_tells_what_was_read_and_written() -> None:
    usage = Usage(prompt_tokens=1234, media=2, new_tokens=50, seconds=2.0, finish_reason="length")
    line = status_line(usage)
    usage.first_token_seconds, usage.queue_seconds = 0.25, 3.2
    line = status_line(usage)
    for fact in (
        "<b>1,234</b> tokens",
        "2 pictures or videos",
        "<b>50</b> tokens",
        "first after 0.25 s",
        "25.0 tokens/s",
        "waited 3 s",
        "stopped at the token limit",
    ):
        assert fact in line
    assert "1 picture or video among" in status_line(Usage(media=1, prompt_tokens=3, finish_reason="running"))
    assert "no pictures" in status_line(Usage(prompt_tokens=3, finish_reason="end"))
    assert "<b>2 questions</b> ahead" in status_line(Usage(), ahead=2)
    assert "ahead" not in status_line(Usage()) and "Waiting" in status_line(Usage())
    assert "empty" in status_line(None) and "file" in status_line(None, begun=True)


def test_the_head_names_the_model() -> None:
    html = header("<x>", ["7.06 B parameters", "<y>"])
    assert "&lt;x&gt;" in html and "7.06 B parameters" in html and "&lt;y&gt;" in html
