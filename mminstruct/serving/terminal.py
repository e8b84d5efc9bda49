"""A chat in the terminal: answers stream in, Ctrl-C stops the answer and not the program, lines may come from a pipe.

Only answers go to standard output (with `as_json`: one object per answer and line); everything else goes to standard
error, so that a script reads nothing but answers.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from PIL.Image import Image
from rich.console import Console

from mminstruct.errors import DataError, MminstructError, did_you_mean
from mminstruct.media import open_image
from mminstruct.serving.chat import ChatSession, Reply, Turn
from mminstruct.serving.detokenizer import printable
from mminstruct.serving.settings import GenerationSettings

HELP = """\
/image PATH ...  add images to the next question (quote a path with spaces)
/retry           answer the last question again
/undo            take back the last question
/reset           start a new conversation
/help            show this
/quit            leave (Ctrl-D does the same)
Ctrl-C stops an answer; what there is of it stays in the conversation."""


class Terminal:
    """One chat. `interactive` is for a person: prompts, hints, Ctrl-C; otherwise the first error ends the chat."""

    def __init__(
        self, chat: ChatSession, settings: GenerationSettings, interactive: bool, as_json: bool = False
    ) -> None:
        self.chat = chat
        self.settings = settings
        self.interactive = interactive
        self.as_json = as_json
        self.answers = Console()
        self.notes = Console(stderr=True)
        self._images: list[Image] = []
        self._paths: list[str] = []
        self._commands: dict[str, Callable[[list[str]], None]] = {
            "image": self.add_images,
            "retry": lambda _: self._answer(lambda cancel: self.chat.retry(self.settings, cancel)),
            "undo": self._undo,
            "reset": self._reset,
            "help": lambda _: self.notes.print(HELP, markup=False, highlight=False),
        }

    def run(self, lines: Iterable[str]) -> None:
        """Answer line after line until they end or one is `/quit`."""
        for line in lines:
            if line.strip() == "/quit":
                return
            try:
                self._take(line.strip())
            except MminstructError as error:
                if not self.interactive:
                    raise
                self.notes.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
            except KeyboardInterrupt:  # in between, where it stops no answer
                if not self.interactive:
                    raise

    def ask(self, question: str) -> None:
        """Answer one question about the images added since the last one."""
        images, paths = self._images, self._paths
        self._answer(lambda cancel: self.chat.ask(question, images, self.settings, cancel, attachment=paths))
        self._images, self._paths = [], []

    def add_images(self, paths: list[str]) -> None:
        """Open images for the next question. Raises `MediaError` for the first one that cannot be opened."""
        if not paths:
            raise DataError("/image wants the path of an image file")
        opened = [open_image(Path(path).expanduser()) for path in paths]
        self._images = [*self._images, *opened]
        self._paths = [*self._paths, *paths]
        if self.interactive:
            self.note(f"{len(self._images)} image{'s' * (len(self._images) != 1)} for the next question")

    def _take(self, line: str) -> None:
        if not line:
            return
        if not line.startswith("/"):
            self.ask(line)
            return
        try:
            name, *arguments = shlex.split(line[1:])
        except ValueError:
            raise DataError(f"{line!r} has a quote that is never closed; close it") from None
        if name not in self._commands:
            known = [f"/{command}" for command in (*self._commands, "quit")]
            raise DataError(f"no command is called '/{name}'.{did_you_mean(f'/{name}', known)}")
        self._commands[name](arguments)

    def _undo(self, _: list[str]) -> None:
        turn = self.chat.undo()
        self.note("nothing to take back" if turn is None else f"took back: {turn.text}")

    def _reset(self, _: list[str]) -> None:
        self.chat.reset()
        self._images, self._paths = [], []
        self.note("a new conversation")

    def _answer(self, begin: Callable[[threading.Event], Reply]) -> None:
        cancel = threading.Event()
        with _interrupts_set(cancel) if self.interactive else contextlib.nullcontext():
            reply = begin(cancel)
            turn = reply.turn
            try:
                for delta in reply:
                    if not self.as_json:
                        self.answers.out(printable(delta), end="", highlight=False)
                        self.answers.file.flush()
            finally:
                if not self.as_json and turn.answer:
                    self.answers.out("")
        if self.as_json:
            self.answers.out(json.dumps(_record(turn), ensure_ascii=False), highlight=False)
        elif self.interactive:
            self.note(_summary(turn))

    def note(self, text: str) -> None:
        """A remark for a person, beside the answers."""
        self.notes.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)


def typed_lines() -> Iterator[str]:
    """Lines that a person types, until Ctrl-D. Ctrl-C at the prompt throws away the line."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - importing it gives input() a history and line editing
    while True:
        try:
            yield input("> ")
        except KeyboardInterrupt:
            sys.stderr.write("\n(Ctrl-D or /quit to leave)\n")
        except EOFError:
            sys.stderr.write("\n")
            return


@contextlib.contextmanager
def _interrupts_set(event: threading.Event) -> Iterator[None]:
    """Ctrl-C sets the event inside the block instead of raising in the middle of something."""
    before = signal.signal(signal.SIGINT, lambda *_: event.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _record(turn: Turn) -> dict[str, object]:
    assert turn.usage is not None
    return {
        "question": turn.text,
        "images": turn.attachment,
        "answer": (turn.answer or "").strip(),
        "finish_reason": turn.usage.finish_reason,
        "prompt_tokens": turn.usage.prompt_tokens,
        "new_tokens": turn.usage.new_tokens,
        "seconds": round(turn.usage.seconds, 3),
    }


def _summary(turn: Turn) -> str:
    assert turn.usage is not None
    usage = turn.usage
    reason = {"length": ", stopped at --max-new-tokens", "cancelled": ", stopped"}.get(usage.finish_reason, "")
    return (
        f"(read {usage.prompt_tokens} tokens, wrote {usage.new_tokens} in {usage.seconds:.1f} s, "
        f"{usage.tokens_per_second:.1f} tokens/s{reason})"
    )
