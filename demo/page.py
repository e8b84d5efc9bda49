"""The chat page: what is on it, and what happens when a visitor sends, stops, retries, undoes or clears.

Every handler answers with the whole page state in one order: the chat's messages, the text box, the status line. The
server's turns are the truth; the page only shows them. An answer is stopped through its `Run`, never by killing a
Gradio event, so the part that was made is kept and the buttons always come back.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten
from typing import Any

import gradio as gr
from PIL.Image import Image

from mminstruct.demo.display import Shown, header, messages, model_facts, problem, status_line
from mminstruct.demo.examples import Example, draw_examples
from mminstruct.demo.visitors import Run, Visitor, Visitors
from mminstruct.errors import DataError, MediaError, MminstructError
from mminstruct.media import open_image
from mminstruct.serving.chat import Framing, Reply
from mminstruct.serving.generator import Generator
from mminstruct.serving.settings import GenerationSettings

log = logging.getLogger("mminstruct.demo")

IMAGE_TYPES = [".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"]
# Answers wait for the model in the generator's queue, where they can be cancelled, and not in Gradio's.
MAX_ANSWERS = 16
MAX_WAITING = 32
FRAME_SECONDS = 0.05
LONG_ANSWER = 10_000  # characters after which the pause between two frames is doubled
PICTURE_EDGE = 1024
MAX_TEXT = 100_000
TOAST_SECONDS = 12

PLACEHOLDER = """
## Ask about an image
Add one or several images with the paper clip, paste or drop them, then type a question.
"""

Update = tuple[Any, Any, Any]  # messages, text box, status line


class Page:
    """The page of one generator. `folder` holds its pictures; files of visitors must lie in `uploads`."""

    def __init__(
        self, generator: Generator, title: str, framing: Framing | None, url: str, folder: Path, uploads: Path
    ) -> None:
        self.generator = generator
        self.url = url
        self.title = title
        self._framing = framing or Framing()
        self.visitors = Visitors(generator, self._framing)
        self._uploads = uploads.resolve()
        self._pictures = folder / "pictures"
        self._pictures.mkdir()
        examples = folder / "examples"
        examples.mkdir()
        self._examples: list[Example] = draw_examples(examples)

    # ---- what is on the page ---------------------------------------------------------------------------------------

    def build(self) -> gr.Blocks:
        # Old uploads are deleted: looked at every ten minutes, at the age of four hours.
        with gr.Blocks(
            title=f"{self.title} · mminstruct", fill_height=True, analytics_enabled=False, delete_cache=(600, 4 * 3600)
        ) as blocks:
            gr.HTML(self._header(), padding=False)
            chat = gr.Chatbot(
                elem_id="chat",
                label="Chat",
                show_label=False,
                scale=1,
                layout="bubble",
                placeholder=PLACEHOLDER,
                examples=[
                    {
                        "text": e.question,
                        "display_text": e.question,
                        "files": [str(f) for f in e.files],
                        "icon": str(e.files[-1]),
                    }
                    for e in self._examples
                ],
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
                placeholder="Ask about an image …",
                file_types=IMAGE_TYPES,
                file_count="multiple",
                sources=["upload"],
                max_lines=8,
                max_plain_text_length=MAX_TEXT,
                autofocus=True,
                submit_btn=True,
                stop_btn=False,
            )
            status = gr.HTML(status_line(None), elem_id="status", padding=False)
            with gr.Accordion("Settings", open=False, elem_id="settings"), gr.Row():
                limit = self.generator.context_length or 4096
                tokens = gr.Slider(
                    1, limit, value=min(512, limit), step=1, label="Longest answer", info="tokens", min_width=200
                )
                temperature = gr.Slider(
                    0, 2, value=0, step=0.05, label="Temperature", info="0 always takes the likeliest", min_width=200
                )
                top_p = gr.Slider(
                    0.05, 1, value=1, step=0.05, label="Top-p", info="share of tokens drawn from", min_width=200
                )
            self._connect(blocks, chat, box, status, [tokens, temperature, top_p])
        return blocks

    def _header(self) -> str:
        model = self.generator.model
        dtype = str(model.dtype).removeprefix("torch.")
        facts = model_facts(model.num_parameters(), str(model.device), dtype, self.generator.context_length)
        for label, text in (("system", self._framing.system), ("instruction", self._framing.instruction)):
            facts += [f"{label}: {shorten(text, 90)}"] if text else []
        return header(self.title, facts)

    def _connect(
        self, blocks: gr.Blocks, chat: gr.Chatbot, box: gr.MultimodalTextbox, status: gr.HTML, settings: list[Any]
    ) -> None:
        everything = [chat, box, status]
        streams: dict[str, Any] = {
            "outputs": everything,
            "concurrency_limit": MAX_ANSWERS,
            "concurrency_id": "answers",
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        box.submit(self.send, [box, *settings], **streams)
        chat.example_select(self.send_example, settings, **streams)
        chat.retry(self.retry, settings, **streams)
        box.stop(self.stop, None, None, **quick)
        chat.undo(self.undo, None, everything, **quick)
        chat.clear(self.clear, None, everything, **quick)
        blocks.unload(self.unload)

    # ---- what visitors do ------------------------------------------------------------------------------------------

    def send(
        self, message: dict[str, Any], tokens: float, temperature: float, top_p: float, request: gr.Request
    ) -> Iterator[Update]:
        """A question from the text box."""
        files = tuple(Path(path) for path in message["files"])
        yield from self._ask(_tab(request), message["text"], files, _settings(tokens, temperature, top_p))

    def send_example(
        self, tokens: float, temperature: float, top_p: float, chosen: gr.SelectData, request: gr.Request
    ) -> Iterator[Update]:
        """One of the examples; the browser says which one, never which files."""
        example = self._examples[int(chosen.index)]
        yield from self._ask(_tab(request), example.question, example.files, _settings(tokens, temperature, top_p))

    def retry(self, tokens: float, temperature: float, top_p: float, request: gr.Request) -> Iterator[Update]:
        """Answer the last question again."""
        visitor = self.visitors.get(_tab(request))
        if not visitor.chat.turns:
            yield self._state(visitor)
            return
        run = Run()
        reply = visitor.chat.retry(_settings(tokens, temperature, top_p), run.cancel)
        yield from self._stream(visitor, run, reply)

    def stop(self, request: gr.Request) -> None:
        """Stop the answer; its own handler then shows what there is of it."""
        self.visitors.get(_tab(request)).stop()

    def undo(self, request: gr.Request) -> Update:
        """Take the last question back into the text box."""
        visitor = self.visitors.get(_tab(request))
        visitor.leave()
        turn = visitor.chat.undo()
        if turn is None:
            return self._state(visitor)
        shown = turn.attachment
        files = [str(path) for path in shown.files if path.is_file()] if isinstance(shown, Shown) else []
        return self._state(visitor, value={"text": turn.text, "files": files})

    def clear(self, request: gr.Request) -> Update:
        visitor = self.visitors.get(_tab(request))
        visitor.leave()
        visitor.chat.reset()
        return self._state(visitor)

    def unload(self, request: gr.Request) -> None:
        """The tab was closed."""
        self.visitors.gone(_tab(request))

    # ---- one answer ------------------------------------------------------------------------------------------------

    def _ask(self, tab: str, text: str, files: tuple[Path, ...], settings: GenerationSettings) -> Iterator[Update]:
        visitor = self.visitors.get(tab)
        try:
            if len(text) > MAX_TEXT:
                raise DataError(f"the question has {len(text)} characters, above the limit of {MAX_TEXT}; shorten it")
            pictures = self._open(visitor, files)
            shown = Shown(files, tuple(self._save(picture) for picture in pictures))
            # The pictures go with the turn that shows them.
            weakref.finalize(shown, _remove, shown.pictures)
            run = Run()
            reply = visitor.chat.ask(text, pictures, settings, run.cancel, attachment=shown)
        except MminstructError as error:
            # The page stays as it is, the question still in the text box, for the visitor to mend.
            told = problem(error, _new_id())
            log.warning("%s: question refused: %s", told.error_id, error)
            gr.Warning(told.html(), duration=TOAST_SECONDS)
            yield gr.skip(), gr.skip(), gr.skip()
            return
        yield from self._stream(visitor, run, reply, value={"text": "", "files": []})

    def _stream(
        self, visitor: Visitor, run: Run, reply: Reply, value: dict[str, Any] | None = None
    ) -> Iterator[Update]:
        turn = reply.turn
        visitor.begin(run)
        try:
            yield self._state(visitor, answering=True, value=value)
            drawn = time.monotonic()
            for _ in reply:
                if visitor.current is not run:
                    break
                # The browser draws the whole answer each time, so a long one is drawn less often.
                if time.monotonic() - drawn >= FRAME_SECONDS * (1 + len(turn.answer or "") / LONG_ANSWER):
                    yield messages(visitor.chat.turns, visitor.problems), gr.skip(), status_line(turn.usage)
                    drawn = time.monotonic()
        except Exception as error:
            # Whatever it is: a failed answer must not leave the page without its buttons.
            told = problem(error, _new_id())
            visitor.problems[turn] = told
            expected = isinstance(error, MminstructError)
            log.error("%s: no answer: %s", told.error_id, error, exc_info=None if expected else error)
        finally:
            # Also when Gradio closes this generator because the visitor is gone.
            run.cancel.set()
            visitor.end(run)
        # An overtaken answer ends with the page's state too: a frame of it may have arrived after what overtook it.
        yield self._state(visitor, answering=visitor.current is not None)

    def _state(self, visitor: Visitor, answering: bool = False, value: dict[str, Any] | None = None) -> Update:
        turns = visitor.chat.turns
        buttons: dict[str, Any] = {"submit_btn": not answering, "stop_btn": answering}
        box = gr.update(**buttons) if value is None else gr.update(value=value, **buttons)
        return messages(turns, visitor.problems), box, status_line(turns[-1].usage if turns else None)

    # ---- files -----------------------------------------------------------------------------------------------------

    def _open(self, visitor: Visitor, files: tuple[Path, ...]) -> list[Image]:
        pictures = []
        for number, path in enumerate(files, start=1):
            self._require_own(path)
            try:
                pictures.append(open_image(path.read_bytes()))
            except MediaError as error:
                raise MediaError(f"image {number} ({path.name}): {error}") from None
        visitor.require_room(len(pictures), sum(picture.width * picture.height for picture in pictures))
        return pictures

    def _require_own(self, path: Path) -> None:
        """Gradio checks this too; a path that someone made up must not be read even if it one day forgets."""
        resolved = path.resolve()
        own = any(resolved.is_relative_to(folder) for folder in (self._uploads, self._pictures.parent.resolve()))
        if not own or not resolved.is_file():
            raise MediaError(f"the file {path.name} is no upload of this page, or has expired; add the image again")

    def _save(self, picture: Image) -> Path:
        """The picture as it was opened, in a format that any browser shows."""
        small = picture.copy()
        small.thumbnail((PICTURE_EDGE, PICTURE_EDGE))
        photo = max(small.size) > PICTURE_EDGE // 2
        handle, name = tempfile.mkstemp(dir=self._pictures, suffix=".jpg" if photo else ".png")
        with os.fdopen(handle, "wb") as stream:
            small.save(stream, format="JPEG" if photo else "PNG", quality=90)
        return Path(name)


def _remove(paths: tuple[Path, ...]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _settings(tokens: float, temperature: float, top_p: float) -> GenerationSettings:
    # Sliders are clamped here as well: what the browser sends need not come from them.
    return GenerationSettings(
        max_new_tokens=max(1, min(int(tokens), 1_000_000)),
        temperature=max(0.0, min(float(temperature), 2.0)),
        top_p=max(0.01, min(float(top_p), 1.0)),
    )


def _tab(request: gr.Request) -> str:
    return request.session_hash or ""


def _new_id() -> str:
    return uuid.uuid4().hex[:8]
