"""A page of conversations: records to what the template shows, pictures with their evidence, answers with their calls.

    Conversation, log ──▶ Shown(turns, sides of a pair, facts, calls) ──view.html.jinja, escaped──▶ HTML without scripts

Media are addresses of the server (`/media/NUMBER/INDEX`), or in a page of its own `data:` addresses of small copies.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from mminstruct.building.logged import Logged, LoggedCalls
from mminstruct.conversation import Conversation, Media, Message, TextPart
from mminstruct.errors import DataError, MediaError
from mminstruct.evidence.facts import Facts, facts_of
from mminstruct.formats import media_source
from mminstruct.inspection.records import Records
from mminstruct.media import FrameSampling, open_image, open_video

SMALL = 640  # pixels of the longer side of a copy in a page of its own
_COLOURS = 6  # classes c0 ... of the template
# Nothing but what the page itself brings: no scripts, nothing from elsewhere.
POLICY = "default-src 'none'; img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'; form-action 'self'"


@dataclass(frozen=True)
class Mark:
    """A place in a picture: corners for an SVG of 100 x 100, where its number stands, and what it is."""

    number: int
    points: str
    left: float
    top: float
    label: str
    colour: str


@dataclass(frozen=True)
class Piece:
    """A part of a turn: a text, or a medium with its addresses (several for the frames of a video in a copy)."""

    kind: str
    text: str = ""
    addresses: list[str] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    problem: str = ""
    note: str = ""


@dataclass(frozen=True)
class Turn:
    role: str
    pieces: list[Piece]


@dataclass(frozen=True)
class Shown:
    """One record. `problem` alone where it cannot be read."""

    number: int
    id: str = ""
    task: str = ""
    problem: str = ""
    turns: list[Turn] = field(default_factory=list)
    chosen: list[Turn] = field(default_factory=list)
    rejected: list[Turn] = field(default_factory=list)
    lists: list[tuple[str, list[str]]] = field(default_factory=list)
    rest: str = ""
    calls: list[Logged] = field(default_factory=list)


Addresses = Callable[[int, int, Media], list[str]]
"""(number of the record, index of the medium, medium) to the addresses of its pictures. Raises `MediaError`."""


def shown(
    number: int, conversation: Conversation | DataError, addresses: Addresses, calls: LoggedCalls | None
) -> Shown:
    """What the template shows of a record."""
    if isinstance(conversation, DataError):
        return Shown(number, problem=str(conversation))
    problem = ""
    try:
        facts = facts_of(conversation)
    except DataError as error:
        facts, problem = None, str(error)
    drawn: set[int] = set()

    def turns(said: Sequence[Message]) -> list[Turn]:
        return [Turn(one.role, [_piece(part) for part in one.content]) for one in said]

    def _piece(part: Any) -> Piece:
        if isinstance(part, TextPart):
            return Piece("text", part.text)
        return _medium(number, part.index, conversation, addresses, facts, drawn)

    sides = conversation.preference
    given = {"options": conversation.options, "answers": conversation.answers, "passages": conversation.passages}
    if facts is not None:
        given["facts: captions"] = facts.captions
    rest = conversation.model_dump(mode="json", include={"scores", "extra", "provenance", "context_ids", "media"})
    keys = conversation.provenance.call_ids if conversation.provenance is not None else []
    return Shown(
        number,
        conversation.id,
        conversation.task or "",
        problem,
        turns(conversation.messages),
        turns(sides.chosen if sides else ()),
        turns(sides.rejected if sides else ()),
        [(name, list(values)) for name, values in given.items() if values],
        json.dumps({key: value for key, value in rest.items() if value}, indent=2, ensure_ascii=False),
        list(calls.find(keys, requests=True)) if calls is not None else [],
    )


def _medium(
    number: int, index: int, conversation: Conversation, addresses: Addresses, facts: Facts | None, drawn: set[int]
) -> Piece:
    medium = conversation.media[index]
    marks = facts.marks(index) if facts is not None and medium.kind == "image" and index not in drawn else []
    drawn.add(index)
    note = medium.path if not medium.path.startswith("data:") else "a data: URI"
    try:
        found = addresses(number, index, medium)
    except MediaError as error:
        return Piece(medium.kind, problem=str(error), note=note)
    return Piece(medium.kind, addresses=found, marks=[_mark(n, one) for n, one in enumerate(marks, 1)], note=note)


def _mark(number: int, one: Any) -> Mark:
    corners = [(100 * x, 100 * y) for x, y in one.corners]
    left, top = min(x for x, _ in corners), min(y for _, y in corners)
    points = " ".join(f"{x:.2f},{y:.2f}" for x, y in corners)
    return Mark(number, points, left, top, one.label, f"c{(number - 1) % _COLOURS}")


def served(number: int, index: int, medium: Media) -> list[str]:
    """The address at the server of this page."""
    return [f"/media/{number}/{index}"]


def copies(root: Path) -> Addresses:
    """Small copies of pictures, and of four frames of a video, as `data:` addresses."""

    def addresses(number: int, index: int, medium: Media) -> list[str]:
        source = media_source(medium.path, root)
        if medium.kind == "image":
            return [_copy(open_image(source))]
        if isinstance(source, str):
            raise MediaError("a video must be a file; a data URI can hold pictures only")
        return [_copy(frame) for frame in open_video(source, FrameSampling(limit=4)).frames]

    return addresses


def _copy(picture: Image.Image) -> str:
    small = picture.copy()
    small.thumbnail((SMALL, SMALL))
    stream = io.BytesIO()
    small.save(stream, "PNG" if max(picture.size) <= SMALL // 2 else "JPEG", **({"quality": 85}))
    kind = "png" if stream.getvalue().startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def render(**values: Any) -> str:
    """The page. What comes from the data set is escaped, whatever it is."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("view.html.jinja").render(policy=POLICY, **values)


def export(records: Records, title: str, numbers: Sequence[int], calls: LoggedCalls | None) -> str:
    """A page of its own, without a server, of these records."""
    addresses = copies(records.media_root)
    found = []
    for number in numbers:
        try:
            conversation: Conversation | DataError = records[number]
        except DataError as error:
            conversation = error
        found.append(shown(number, conversation, addresses, calls))
    return render(title=title, total=len(records), found=found, wanted=None, tasks=[], earlier=None, later=None)
