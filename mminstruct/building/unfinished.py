"""A build on its way: `OUT.unfinished`, which becomes `OUT` when it is whole, and from which a later run goes on.

    OUT.unfinished/build.jsonl         what is built, then one line for each part that is on the disk for good
    OUT.unfinished/shard-00000.jsonl   as in the data set that it will be
    OUT.unfinished/batches/            questions in files, and their replies (mminstruct.building.clients.batch)
    OUT.unfinished/calls.sqlite        every reply (mminstruct.building.call_log), unless it is kept elsewhere

A part is written in this order: media, shard, line. What a killed run left behind without its line is made again, to
the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from mminstruct.building.card import README, card
from mminstruct.building.figures import Figures
from mminstruct.building.usage import counted, summed
from mminstruct.conversation import Conversation, Record
from mminstruct.errors import DataError, RunError
from mminstruct.files import TEMPORARY, publish, read_jsonl, require_new, sync, write_text
from mminstruct.formats import native

NOTES = "build.jsonl"
CALLS = "calls.sqlite"
BATCHES = "batches"
DEAD_LETTERS = "dead-letters.jsonl"
_LOCK = ".lock"


class DeadLetter(Record):
    """An item that could not be used: which, why in a word and in a line, and the replies that it had."""

    item: str
    reason: str
    problem: str
    call_ids: list[str] = Field(default_factory=list)


class Part(Record):
    """Consecutive items that are done.

    Attributes:
        made: how many conversations each gave.
        shard: what holds them, None where there are none.
        media: how many media entries they have, by kind.
        dropped: how often which rule left something out, by the item's place in `made`.
        failed: the items that could not be used, by place likewise.
        asked: keys of the replies that an item got and none of its conversations names, by place likewise.
        left: files that an item wrote which gave no conversations, by place likewise.
    """

    made: list[int]
    shard: native.Shard | None = None
    media: dict[str, int] = Field(default_factory=dict)
    dropped: dict[int, dict[str, int]] = Field(default_factory=dict)
    failed: dict[int, DeadLetter] = Field(default_factory=dict)
    asked: dict[int, list[str]] = Field(default_factory=dict)
    left: dict[int, list[str]] = Field(default_factory=dict)

    def unnamed(self) -> Iterator[str]:
        """The keys of all replies that no conversation names."""
        for letter in self.failed.values():
            yield from letter.call_ids
        for keys in self.asked.values():
            yield from keys


@dataclass
class Made:
    """What became of one item.

    Attributes:
        dropped: how often which rule left something out.
        files: names of those that were written for it.
        failed: why it cannot be used; then there are no conversations.
        asked: keys of replies that none of the conversations names.
    """

    conversations: list[Conversation] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    files: list[str] = field(default_factory=list)
    failed: DeadLetter | None = None
    asked: list[str] = field(default_factory=list)


class UnfinishedBuild:
    """
    Attributes:
        folder: where files of the build go.
        parts: those that are done.
        ids: of all conversations in them.
        figures: of all conversations in them, for the card, and the keys of all replies.

    Args:
        out: the folder that it will be.
        note: what is built; a build that goes on must have the same.
        resume: whether to go on with what an earlier run left.

    Raises:
        RunError: `out` is in use, another run is building it, an unfinished build is there and `resume` is not set, or
            it is of something else.
    """

    def __init__(self, out: Path, note: dict[str, Any], resume: bool) -> None:
        require_new(out)
        self.out = out
        self.folder = unfinished(out)
        self.parts: list[Part] = []
        self.ids: set[str] = set()
        self.figures = Figures()
        notes = self.folder / NOTES
        self._begun_here = not notes.is_file()
        if notes.is_file() and not resume:
            raise RunError(f"{self.folder} is a build that did not end; add --resume to go on with it, or remove it")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / _LOCK, timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise RunError(f"another process is building {self.folder}; wait for it, or stop it") from None
        try:
            if notes.is_file():
                self._read(note)
            else:
                write_text(notes, json.dumps(note, ensure_ascii=False) + "\n")
            self._clean()
        except BaseException:
            self._lock.release()
            raise

    def _read(self, note: dict[str, Any]) -> None:
        self.parts = _read_notes(self.folder, note)
        for shard in self._shards():
            for conversation in native.read_shard(self.folder, shard):
                self.ids.add(conversation.id)
                self.figures.add(conversation)
        for part in self.parts:
            self.figures.called(part.unnamed())

    def _clean(self) -> None:
        known = {shard.file for shard in self._shards()}
        for path in self.folder.glob("shard-*.jsonl"):
            if path.name not in known:
                path.unlink()
        for path in self.folder.rglob(f".*{TEMPORARY}"):
            path.unlink()

    def _shards(self) -> list[native.Shard]:
        return [part.shard for part in self.parts if part.shard is not None]

    @property
    def items(self) -> int:
        """How many items are done."""
        return sum(len(part.made) for part in self.parts)

    @property
    def failed(self) -> list[DeadLetter]:
        return [letter for part in self.parts for letter in part.failed.values()]

    def add(self, part: Part, lines: Sequence[str], media: Mapping[str, int], files: Iterable[str]) -> None:
        """One part more, of these lines of a shard: when this returns it is on the disk, with the files it needs."""
        sync([self.folder / name for name in files])
        shard = native.write_shard(self.folder, len(self._shards()), lines) if lines else None
        part = part.model_copy(update={"shard": shard, "media": dict(sorted(media.items()))})
        self.figures.called(part.unnamed())
        with (self.folder / NOTES).open("a", encoding="utf-8") as stream:
            stream.write(part.model_dump_json() + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.parts.append(part)

    def finish(self, builder: dict[str, Any], calls: Path | None = None) -> native.Manifest:
        """Write the data set's card and give the folder its name; `calls` is the log of its replies.

        Raises:
            DataError: it holds no conversations.
        """
        if self.failed and not self._shards():
            first = self.failed[0]
            raise DataError(
                f"none of {self.items} items could be used, the first, {first.item}, for this: {first.problem}; mend "
                f"that and run again with --retry-failed"
            )
        self._remove_left()
        kinds: Counter[str] = Counter()
        dropped: Counter[str] = Counter()
        for part in self.parts:
            kinds.update(part.media)
            for rules in part.dropped.values():
                dropped.update(rules)
        note = builder | ({"dropped": dict(sorted(dropped.items()))} if dropped else {})
        letters = self.failed
        if letters:
            note["failed"] = len(letters)
            write_text(self.folder / DEAD_LETTERS, "".join(one.model_dump_json() + "\n" for one in letters))
        usage = {} if calls is None else counted(calls, self.figures.calls())
        if usage:
            note["usage"] = summed(usage.values())
        manifest = native.write_manifest(self.folder, self._shards(), kinds, self.out, note)
        failures = Counter(letter.reason for letter in letters)
        write_text(self.folder / README, card(self.figures, builder=note, failures=failures, usage=usage))
        (self.folder / _LOCK).unlink()
        publish(self.folder, self.out)
        self._lock.release()
        return manifest

    def _remove_left(self) -> None:
        """Remove what items wrote that gave nothing, unless a record shows it.

        Only now: until the last item is made, one may be about to show a file that another wrote.
        """
        left = {name for part in self.parts for names in part.left.values() for name in names}
        if left:
            for shard in self._shards():
                for conversation in native.read_shard(self.folder, shard):
                    left.difference_update(medium.path for medium in conversation.media)
        for name in sorted(left):
            path = self.folder / name
            path.unlink(missing_ok=True)
            for folder in path.relative_to(self.folder).parents[:-1]:
                with contextlib.suppress(OSError):  # it has other files, or is gone
                    (self.folder / folder).rmdir()

    def leave(self) -> None:
        """Let go, for a later run; nothing stays of what was begun here where nothing is worth keeping."""
        if self._begun_here and not self.parts and not (self.folder / CALLS).exists():
            shutil.rmtree(self.folder)
        self._lock.release()


def unfinished(out: Path) -> Path:
    return out.with_name(f"{out.name}.unfinished")


class PartWriter:
    """Cuts what items become into parts of about `per_shard` conversations, the same ones whoever made them.

    Of a part that grows the lines of its shard are held: a hundred thousand small objects instead would be looked at
    again and again by the collector of garbage, which took up to 30 % of the time.
    """

    def __init__(self, build: UnfinishedBuild, per_shard: int) -> None:
        self._build = build
        self._per_shard = per_shard
        self._begin()

    def _begin(self) -> None:
        self._part = Part(made=[])
        self._lines: list[str] = []
        self._media: Counter[str] = Counter()
        self._files: dict[str, None] = {}

    def take(self, made: Made) -> None:
        """Raises `DataError` where JSON cannot hold a conversation."""
        part, place = self._part, len(self._part.made)
        self._lines += map(native.line, made.conversations)
        for conversation in made.conversations:
            self._media.update(medium.kind for medium in conversation.media)
            self._build.figures.add(conversation)
        part.made.append(len(made.conversations))
        if made.conversations:
            self._files |= dict.fromkeys(made.files)
        elif made.files:
            part.left[place] = sorted(set(made.files))
        if made.dropped:
            part.dropped[place] = dict(sorted(made.dropped.items()))
        if made.failed is not None:
            part.failed[place] = made.failed
        if made.asked:
            part.asked[place] = made.asked
        if max(len(self._lines), len(part.made)) >= self._per_shard:
            self.end()

    def end(self) -> None:
        """Write what is left."""
        if self._part.made:
            self._build.add(self._part, self._lines, self._media, self._files)
            self._begin()


def read_parts(folder: Path) -> tuple[dict[str, Any], list[Part]]:
    """What a folder's build is of, and its parts. Raises `DataError` where there is no such note or it is broken."""
    notes = folder / NOTES
    if not notes.is_file():
        raise DataError(f"{folder} has no {NOTES}; give a folder that mminstruct build wrote")
    (_, head), *rest = read_jsonl(notes)
    try:
        return head, [Part.model_validate(value) for _, value in rest]
    except ValidationError:
        raise DataError(f"{notes} is broken; remove {folder} and build it again") from None


def _read_notes(folder: Path, note: dict[str, Any]) -> list[Part]:
    """The parts of a build, which must be of what `note` says. Half a line of a killed run is cut off."""
    notes = folder / NOTES
    data = notes.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:
        with notes.open("r+b") as stream:
            stream.truncate(len(whole))
    before, parts = read_parts(folder)
    changed = sorted(key for key in {*before, *note} if before.get(key) != note.get(key))
    if changed:
        key = changed[0]
        raise RunError(
            f"{folder} was begun with {key} {json.dumps(before.get(key))}, now it is {json.dumps(note.get(key))}; "
            f"take the same, or another --out"
        )
    return parts


def reopen(out: Path, note: dict[str, Any]) -> int:
    """Make a data set an unfinished build that ends before the first item that failed; how many had.

    Nothing is lost by that: replies are in the log, and the rest is made again to the same bytes. A build that did not
    end is cut back likewise, where anything had failed in it.

    Raises:
        RunError: nothing failed, it was not built here, or is of something else than `note`. Nothing is changed then.
    """
    ended = out.exists() or not unfinished(out).exists()
    folder = out if ended else unfinished(out)
    if not (folder / NOTES).is_file():
        raise RunError(f"{out} has no {NOTES}, so no build of it can go on; give a folder that mminstruct build wrote")
    parts = _read_notes(folder, note)
    first = next((number for number, part in enumerate(parts) if part.failed), None)
    if first is None:
        if ended:
            raise RunError(f"no item of {out} had failed; there is nothing to try again")
        return 0
    if ended:
        if unfinished(out).exists():
            raise RunError(f"{unfinished(out)} is there already; remove it, or {out}")
        folder = out.rename(unfinished(out))
        (folder / native.MANIFEST).unlink()
        (folder / DEAD_LETTERS).unlink()
        (folder / README).unlink(missing_ok=True)
    kept = [json.dumps(note, ensure_ascii=False), *(part.model_dump_json() for part in parts[:first])]
    write_text(folder / NOTES, "\n".join(kept) + "\n")
    return sum(len(part.failed) for part in parts)
