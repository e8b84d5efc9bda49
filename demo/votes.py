"""Votes between two models' answers: a file that loses none, what they add up to, and pairs to train on.

    Vote(verdict, left, right) ──add──▶ votes.jsonl, a line each, on the disk when `add` returns
                                        votes-media/SHA-256.png, .mp4: pictures and frames that were looked at

    python demo/votes.py summary votes.jsonl                  # who won how often, with intervals
    python demo/votes.py pairs votes.jsonl --out runs/votes   # a data set of preference pairs

A vote holds both conversations as `Conversation` records, models, settings, sides and a time; nothing of the visitor.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from PIL.Image import Image
from pydantic import Field, ValidationError

from mminstruct.conversation import Conversation, Media, Message, Record, TextPart
from mminstruct.errors import DataError, RunError
from mminstruct.evaluation.statistics import wilson
from mminstruct.files import bytes_sha256, fsync, write_bytes
from mminstruct.formats.items import dumps
from mminstruct.media import Video, encode_clip, encode_png
from mminstruct.serving.chat import Framing, Turn, conversation_of
from mminstruct.serving.settings import GenerationSettings

log = logging.getLogger("mminstruct.demo")

Verdict = Literal["left", "right", "tie", "both bad"]

VERSION: Final = "1"
_BEGINNING = b'{"id": "'  # of every line
_CLIP_RATE = 1  # frames a second in which a video's frames are kept


class Contestant(Record):
    """A model with its settings. `system` is what it is told instead of its template's own text."""

    model: str
    settings: GenerationSettings
    system: str | None = None

    @property
    def key(self) -> str:
        """The same for the same contestant, whatever side it stands on."""
        return self.model_dump_json(exclude_defaults=True)


class Side(Contestant):
    """What stood on one side; `conversation` ends with the answer that was voted on."""

    conversation: Conversation

    @property
    def contestant(self) -> Contestant:
        return Contestant(model=self.model, settings=self.settings, system=self.system)


class Vote(Record):
    """One vote.

    Attributes:
        time: when, in UTC.
        question: the number of the conversation's question that was voted on, from 1.
        blind: whether the names were hidden when the vote was given.
    """

    id: str = Field(min_length=1)
    version: Literal["1"] = VERSION
    time: datetime
    verdict: Verdict
    question: int = Field(ge=1)
    blind: bool
    left: Side
    right: Side


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Tally:
    """How two contestants did against each other, from the first one's view; a tie is half a win."""

    wins: int = 0
    losses: int = 0
    ties: int = 0
    both_bad: int = 0

    @property
    def votes(self) -> int:
        return self.wins + self.losses + self.ties + self.both_bad

    @property
    def rate(self) -> float:
        """The share of votes that the first one won, a tie (or both bad) counting half. There is one vote at least."""
        return (self.wins + (self.ties + self.both_bad) / 2) / self.votes

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of `rate`."""
        return wilson(self.rate, self.votes)


class VoteFile:
    """The votes in a file, which several processes may add to.

    Raises:
        DataError: the file holds something else than votes.
        RunError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.media = path.with_name(f"{path.stem}-media")
        self._counts: Counter[tuple[str, str, Verdict]] = Counter()
        self._read = 0  # bytes that are counted
        self._line = 0
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock, self._opened() as handle:
                self._catch_up(handle)
        except OSError as error:
            raise RunError(f"{path} cannot be written ({error.strerror}); give another file for the votes") from None

    def add(self, vote: Vote) -> None:
        """Write a vote: the whole line is on the disk when this returns, or none of it is in the file.

        Raises `RunError` where it cannot be written, for instance to a full disk.
        """
        line = (dumps(vote.model_dump(mode="json", exclude_none=True), f"vote {vote.id}") + "\n").encode()
        try:
            with self._lock, self._opened() as handle:
                self._catch_up(handle)
                try:
                    _write(handle.descriptor, line)
                    os.fsync(handle.descriptor)
                except OSError:
                    os.ftruncate(handle.descriptor, handle.size)
                    raise
                self._catch_up(handle)
        except OSError as error:
            raise RunError(f"the vote was not kept ({error.strerror}); make room for it and vote again") from None

    def keep(self, media: Sequence[Image | Video]) -> list[Media]:
        """The media on the disk beside the votes, each under the SHA-256 of its file. Raises `RunError`."""
        found = []
        for medium in media:
            video = isinstance(medium, Video)
            data = _clip(medium) if isinstance(medium, Video) else encode_png(medium)
            digest = bytes_sha256(data)
            file = self.media / f"{digest}.{'mp4' if video else 'png'}"
            try:
                if not file.is_file():
                    write_bytes(file, data)
                    fsync(file)
                    fsync(self.media)
            except OSError as error:
                raise RunError(f"the vote's pictures were not kept ({error.strerror}); make room for them") from None
            found.append(
                Media(
                    kind="video" if video else "image",
                    path=f"{self.media.name}/{file.name}",
                    sha256=digest,
                    width=medium.size[0],
                    height=medium.size[1],
                    timestamps=list(medium.timestamps) if isinstance(medium, Video) else None,
                )
            )
        return found

    def tally(self, first: Contestant, second: Contestant) -> Tally:
        """What the file says of two contestants; `Tally()` where nothing."""
        with self._lock:
            return _tally(self._counts, first.key, second.key)

    def summary(self) -> list[tuple[Contestant, Contestant, Tally]]:
        """Every two contestants that met, those with the most votes first."""
        with self._lock:
            met = sorted({(first, second) for first, second, _ in self._counts})
            found = [(first, second, _tally(self._counts, first, second)) for first, second in met]
        found.sort(key=lambda one: -one[2].votes)
        read = Contestant.model_validate_json
        return [(read(first), read(second), tally) for first, second, tally in found]

    def _opened(self) -> _Locked:
        return _Locked(self.path)

    def _catch_up(self, handle: _Locked) -> None:
        """Count the lines that are new, and cut off half a line that a crash of the machine has left."""
        with open(handle.descriptor, "rb", closefd=False) as stream:
            stream.seek(self._read)
            for line in stream:
                if not line.endswith(b"\n") and line.startswith(_BEGINNING[: len(line)]) and not _whole(line):
                    log.warning("%s ended in half a line, of a vote that was never confirmed; it is cut off", self.path)
                    os.ftruncate(handle.descriptor, self._read)
                    break
                self._line += 1
                if line.strip():
                    self._count(_vote(line, f"{self.path}:{self._line}"))
                self._read += len(line)
                if not line.endswith(b"\n"):  # a whole vote, in a file that somebody has edited
                    _write(handle.descriptor, b"\n")
                    self._read += 1
        handle.size = self._read

    def _count(self, vote: Vote) -> None:
        left, right = vote.left.contestant.key, vote.right.contestant.key
        if left <= right:
            self._counts[left, right, vote.verdict] += 1
        else:
            swapped: dict[Verdict, Verdict] = {"left": "right", "right": "left"}
            self._counts[right, left, swapped.get(vote.verdict, vote.verdict)] += 1


def _tally(counts: Counter[tuple[str, str, Verdict]], first: str, second: str) -> Tally:
    low, high = sorted((first, second))
    left, right, tie, bad = (counts[low, high, verdict] for verdict in ("left", "right", "tie", "both bad"))  # type: ignore[index]
    return Tally(left, right, tie, bad) if first == low else Tally(right, left, tie, bad)


class _Locked:
    """The file, open to read and append, while no other process has it so."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = 0

    def __enter__(self) -> _Locked:
        new = not self._path.exists()
        self.descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        if new:
            fsync(self._path.parent)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


def _write(descriptor: int, data: bytes) -> None:
    """All of the bytes; the system may take them in several parts."""
    while data:
        data = data[os.write(descriptor, data) :]


def _clip(video: Video) -> bytes:
    """The frames that were looked at, one a second. H.264 wants even sides: an odd row or column is cut off."""
    width, height = (side - side % 2 for side in video.size)
    return encode_clip([frame.crop((0, 0, width, height)) for frame in video.frames], _CLIP_RATE)


def _whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _vote(line: bytes, where: str) -> Vote:
    try:
        return Vote.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{where} is no vote ({f'{key}: ' if key else ''}{first['msg']}); give another file") from None


def read_votes(path: Path) -> Iterator[Vote]:
    """The votes of a file. Raises `DataError` where it does not exist or a line is none."""
    if not path.is_file():
        raise DataError(f"{path} does not exist; give the file of `mminstruct demo --votes`")
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield _vote(line, f"{path}:{number}")


def conversation(turns: Sequence[Turn], framing: Framing, name: str, media: Sequence[Media]) -> Conversation:
    """The record of a chat whose last turn is answered; `media` are those of `conversation_of`, kept."""
    asked, _ = conversation_of(turns, framing)
    answer = Message(role="assistant", content=[TextPart(text=(turns[-1].answer or "").strip())])
    return Conversation(id=name, messages=[*asked.messages, answer], media=list(media))


# ---- command line ----------------------------------------------------------------------------------------------------

app = typer.Typer(
    help="Votes between two models' answers.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)
File = Annotated[Path, typer.Argument(help="The file of `mminstruct demo --votes`.", show_default=False)]


@app.command()
def summary(file: File) -> None:
    """Who won how often against whom."""
    if not file.is_file():
        raise DataError(f"{file} does not exist; give the file of `mminstruct demo --votes`")
    for first, second, tally in VoteFile(file).summary():
        names = label(first, second), label(second, first)
        typer.echo(f"{names[0]} against {names[1]}: {told(tally)}")


@app.command()
def pairs(file: File, out: Annotated[Path, typer.Option(help="The new folder of the data set.")]) -> None:
    """Write a data set of preference pairs, which `mminstruct data` and preference training read."""
    from mminstruct.demo.vote_pairs import write_pairs

    counts = write_pairs(file, out)
    typer.echo(f"{counts.pairs} pairs in {out}; left out: {counts.undecided} undecided, {counts.same} without a choice")


def label(one: Contestant, other: Contestant) -> str:
    """What one of two contestants is called: its model, and where both have the same one its settings."""
    if one.model != other.model or one.key == other.key:
        return one.model
    mine, theirs = _values(one), _values(other)
    apart = [f"{name} {value}" for name, value in mine.items() if theirs[name] != value]
    return f"{one.model} ({', '.join(apart)})"


def _values(one: Contestant) -> dict[str, Any]:
    names = {"max_new_tokens": "longest answer", "system": "system text"}
    values = one.settings.model_dump(mode="json") | {"system": one.system}
    return {
        names.get(name, name.replace("_", " ")): "none" if value in (None, (), []) else value
        for name, value in values.items()
    }


def told(tally: Tally) -> str:
    """A tally in words."""
    if not tally.votes:
        return "no votes yet"
    low, high = tally.interval
    return (
        f"{tally.wins} won, {tally.losses} lost, {tally.ties} tied, {tally.both_bad} both bad; "
        f"wins {tally.rate:.0%} (95 % interval {low:.0%} to {high:.0%}, ties count half)"
    )


if __name__ == "__main__":
    from mminstruct.cli.app import run_command

    run_command(app)
