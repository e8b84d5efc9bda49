"""The terminal chat: what it prints where, its commands, its errors, Ctrl-C in a real terminal, `mminstruct chat`."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

import mminstruct
from mminstruct.errors import DataError, MediaError
from mminstruct.models import checkpoint
from mminstruct.models.factory import read_row
from mminstruct.serving.chat import ChatSession, conversation_of
from mminstruct.serving.detokenizer import printable
from mminstruct.serving.generator import Generator
from mminstruct.serving.settings import GenerationSettings
from mminstruct.serving.terminal import Terminal
from tests.command import call

SHORT = GenerationSettings(max_new_tokens=8)
Make = Callable[..., Terminal]


@pytest.fixture
def make(generator: Generator) -> Make:
    def make(interactive: bool = False, as_json: bool = False) -> Terminal:
        return Terminal(ChatSession(generator), SHORT, interactive, as_json)

    return make


@pytest.fixture
def file(tmp_path: Path, picture: Image.Image) -> Path:
    path = tmp_path / "a picture.png"
    picture.save(path)
    return path


def test_only_answers_go_to_standard_output(make: Make, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = make(interactive=True)
    terminal.run([f'/image "{file}"', "", "What color?", "/help", "/quit", "never asked"])
    out, err = capsys.readouterr()
    (turn,) = terminal.chat.turns
    assert out == printable(turn.answer) + "\n"
    assert "1 image for the next question" in err
    assert "wrote 8" in err and "stopped at --max-new-tokens" in err
    assert "/retry" in err


def test_json_is_one_object_per_answer(make: Make, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(as_json=True).run([f"/image '{file}'", "What color?", "And the shape?"])
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["question"] == "What color?" and first["images"] == [str(file)]
    assert second["images"] == []
    assert first["new_tokens"] == 8 and first["finish_reason"] == "length"
    assert second["prompt_tokens"] > first["prompt_tokens"]


def test_reset_undo_and_retry(make: Make, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = make(interactive=True)
    terminal.run(["One?", "Two?", "/undo", "/retry"])
    assert [turn.text for turn in terminal.chat.turns] == ["One?"]
    one, _, again = capsys.readouterr().out.splitlines()
    assert one == again
    terminal.run([f'/image "{file}"', "/reset", "Three?"])
    assert [(turn.text, turn.media) for turn in terminal.chat.turns] == [("Three?", [])]


@pytest.mark.parametrize(
    ("line", "error", "told"),
    [
        ("/imgae x.png", DataError, "Did you mean '/image'"),
        ("/image", DataError, "wants the path"),
        ("/image nowhere.png", MediaError, "does not exist"),
        ('/image "half', DataError, "never closed"),
        ("/retry", DataError, "no question"),
    ],
)
def test_errors_are_told_to_a_person_and_end_a_script(
    make: Make, capsys: pytest.CaptureFixture[str], line: str, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        make().run([line, "Hello?"])
    terminal = make(interactive=True)
    terminal.run([line, "Hello?"])
    assert terminal.chat.turns[0].answer
    assert told in " ".join(capsys.readouterr().err.split())


def test_an_answer_cannot_command_the_terminal() -> None:
    assert printable("a\x1b[2J\x1b]0;title\x07b\r\x9b1m\tc\nd") == "a[2J]0;titleb1m\tc\nd"


# ---- as a program ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose answers are as long as they are allowed to be."""
    torch.manual_seed(0)
    row = read_row("nano")[0].model_dump(mode="json")
    row["language_model"]["architecture"]["max_position_embeddings"] = 50_000
    model, processor = mminstruct.create(row)
    config = model.generation_config
    config.suppress_tokens = [*config.suppress_tokens, *config.eos_token_id]
    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    checkpoint.save(folder, model, processor)
    return folder


def test_one_question_from_the_command_line(saved: Path, file: Path) -> None:
    code, out, error = call(
        "chat", saved, "--image", file, "--question", "What color?", "--max-new-tokens", 9, "--json"
    )
    assert code == 0, error
    told = json.loads(out)
    assert told["new_tokens"] == 9 and told["images"] == [str(file)]
    model, processor = mminstruct.load(saved)
    with Generator(model, processor) as generator:
        chat = ChatSession(generator)
        list(chat.ask("What color?", [Image.open(file)], GenerationSettings(max_new_tokens=9)))
    assert told["answer"] == chat.turns[0].answer.strip()
    assert conversation_of(chat.turns)[0].messages[0].text == "What color?"


def test_lines_from_a_pipe_end_at_the_first_error_with_code_2(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.write(write, b"Hello?\n/image nowhere.png\nnever\n")
    os.close(write)
    with os.fdopen(read) as lines:
        monkeypatch.setattr("sys.stdin", lines)
        code, out, error = call("chat", saved, "--max-new-tokens", 5)
    assert code == 2
    assert out.strip() and not out.startswith("> ")
    assert error.splitlines()[-1].startswith("error: the image nowhere.png does not exist")


def _at_a_terminal() -> None:
    os.close(os.open(os.ttyname(0), os.O_RDWR))  # opening it makes it the controlling terminal
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell has its background jobs, and so their children, ignore it


def test_ctrl_c_stops_the_answer_and_not_the_program(saved: Path) -> None:
    main, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "mminstruct", "chat", str(saved), "--max-new-tokens", "40000"],
        stdin=inner, stdout=inner, stderr=inner, start_new_session=True, close_fds=True,
        preexec_fn=_at_a_terminal,
    )  # fmt: skip
    os.close(inner)
    seen = b""

    def comes(mark: bytes, after: int, seconds: float) -> bool:
        nonlocal seen
        deadline = time.monotonic() + seconds
        while mark not in seen[after:] and time.monotonic() < deadline:
            if select.select([main], [], [], 0.5)[0]:
                seen += os.read(main, 65536)
        return mark in seen[after:]

    def until(mark: bytes, after: int = 0) -> int:
        """Read until the mark has come; where it ends."""
        assert comes(mark, after, 90), f"waited in vain for {mark!r} in {seen[-2000:]!r}"
        return seen.index(mark, after) + len(mark)

    try:
        until(b"> ")
        os.write(main, b"Tell me everything.\n")
        at = until(b"everything.")
        while len(seen) < at + 400:
            seen += os.read(main, 65536)
        os.write(main, b"\x03")
        at = until(b"tokens/s, stopped)")
        assert int(seen.split(b"wrote ")[1].split()[0]) < 40_000
        at = until(b"> ", at)
        os.write(main, b"half a line")
        until(b"half a line", at)
        # Python's readline loses a Ctrl-C between its printing and its waiting; a person then presses it again.
        assert any(os.write(main, b"\x03") and comes(b"/quit to leave", at, 2) for _ in range(25))
        at = until(b"/quit to leave", at)
        at = until(b"> ", at)
        os.write(main, b"/reset\n")
        at = until(b"a new conversation", at)
        until(b"> ", at)
        os.write(main, b"\x04")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(main)
