"""The panel "What the model saw" as HTML, its pictures written where the page can show them."""

from __future__ import annotations

import html
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from mminstruct.demo.marks import BOX_COLOUR, Mark, Measure, boxes_of, drawn, words_in
from mminstruct.demo.seen import Seen, SeenMedium
from mminstruct.errors import ConfigError, MediaError
from mminstruct.evidence.tesseract import Tesseract
from mminstruct.media import Video

EMPTY = '<p class="mm-note">Ask a question, then look here.</p>'
_NO_PICTURES = "This family's encoder takes them as rows of patches, which are no pictures to look at."


def seen_html(seen: Seen, folder: Path) -> str:
    """The pictures as the encoder takes them, tokens, and the prompt as it was read."""
    parts = [f'<p class="mm-note">The prompt has <b>{seen.tokens:,}</b> tokens.</p>']
    parts += [_medium(medium, folder) for medium in seen.media]
    if seen.together:
        labels = [f"picture {number}" for number in range(1, len(seen.together) + 1)]
        parts.append(f"<h2>The encoder takes</h2>{_tiles(seen.together, labels, 'of all media', folder)}")
    elif seen.media and not any(medium.pictures for medium in seen.media):
        parts.append(f'<p class="mm-note">{_NO_PICTURES}</p>')
    parts.append("<h2>Prompt</h2>")
    parts.append(f'<pre class="mm-prompt" tabindex="0" aria-label="Prompt">{_prompt(seen)}</pre>')
    return "".join(parts)


def _prompt(seen: Seen) -> str:
    pieces = []
    for text, count in seen.prompt:
        shown = html.escape(text)
        pieces.append(shown if count is None else f"<mark>{shown} \N{MULTIPLICATION SIGN} {count:,}</mark>")
    return "".join(pieces)


def _medium(medium: SeenMedium, folder: Path) -> str:
    width, height = medium.size
    name = medium.name.capitalize()
    head = f"<h2>{html.escape(name)}: {medium.tokens:,} tokens</h2>"
    note = f'<p class="mm-note">{width} x {height} pixels as it was opened. '
    if not medium.pictures:
        return f"{head}{note}</p>"
    side = medium.pictures[0].width
    count = len(medium.pictures)
    note += f"The encoder takes {count} picture{'' if count == 1 else 's'} of {side} x {side}:</p>"
    return f"{head}{note}{_tiles(medium.pictures, medium.labels, f'of {medium.name}', folder)}"


def _tiles(pictures: Sequence[Image.Image], labels: Sequence[str], of: str, folder: Path) -> str:
    figures = [
        figure(picture, label, f"{label} {of}, as the model sees it", folder)
        for picture, label in zip(pictures, labels, strict=True)
    ]
    return f'<div class="mm-tiles">{"".join(figures)}</div>'


def answer_html(answer: str, media: Sequence[Image.Image | Video], measure: Measure, words: bool, folder: Path) -> str:
    """The last question's pictures with what the answer points at; "" where it points at nothing.

    Args:
        measure: what the numbers of boxes mean.
        words: also look for words of the answer in the pictures.
    """
    pictures = [medium for medium in media if not isinstance(medium, Video)]
    found, note = _words(answer, pictures) if words else ([[] for _ in pictures], "")
    parts = []
    for number, (picture, own) in enumerate(zip(pictures, found, strict=True), start=1):
        marks = [*boxes_of(answer, picture.size, measure), *own]
        if marks:
            label = f"image {number}: {', '.join(_told(mark) for mark in marks)}"
            parts.append(figure(drawn(picture, marks), label, f"{label} marked", folder))
    if words and not note and not any(found):
        note = "No word of the answer was found in the pictures."
    body = f'<div class="mm-marked">{"".join(parts)}</div>' if parts else ""
    note = f'<p class="mm-note">{html.escape(note)}</p>' if note else ""
    return f"<h2>The answer in the picture</h2>{note}{body}" if note or body else ""


def _told(mark: Mark) -> str:
    return f"box {mark.label}" if mark.colour == BOX_COLOUR else mark.label


def _words(answer: str, pictures: Sequence[Image.Image]) -> tuple[list[list[Mark]], str]:
    """The marks of each picture, or why there are none."""
    none: list[list[Mark]] = [[] for _ in pictures]
    try:
        engine = Tesseract()
        return [words_in(answer, engine.words(picture)) for picture in pictures], ""
    except (ConfigError, MediaError) as error:
        return none, f"Words were not looked for: {error}."


def figure(picture: Image.Image, caption: str, description: str, folder: Path) -> str:
    """HTML of a picture, which is written into `folder`."""
    handle, name = tempfile.mkstemp(dir=folder, prefix="seen-", suffix=".png")
    with os.fdopen(handle, "wb") as stream:
        picture.save(stream, format="PNG")
    source = f"gradio_api/file={quote(name)}"
    return (
        f'<figure><img src="{html.escape(source)}" alt="{html.escape(description)}" loading="lazy">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
