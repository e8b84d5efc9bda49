"""A mended copy of a data set: without what cannot be mended, with the rest put right, and a list of what was done.

    source, Report ──second pass──▶ native data set OUT, OUT/repair.json

Media stay where they are, with paths that lead there; those that get another name, and those that stood within the
source's files, are written to OUT.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mminstruct import formats
from mminstruct.conversation import Conversation, Media
from mminstruct.errors import DataError
from mminstruct.evidence.facts import KEY, facts_of
from mminstruct.files import bytes_sha256, new_folder, write_json
from mminstruct.formats import native
from mminstruct.formats.items import unique
from mminstruct.inspection.check import CheckConfig, Report
from mminstruct.inspection.findings import KINDS
from mminstruct.media import image_size

NOTES = "repair.json"


@dataclass
class Repaired:
    """
    Attributes:
        kept: conversations of the new data set.
        left_out: how many were, as far as they could be read as items.
        mended: how often what was done, by the code of what was wrong.
    """

    kept: int = 0
    left_out: int = 0
    mended: Counter[str] = field(default_factory=Counter)


def repair(source: Path, out: Path, config: CheckConfig, report: Report) -> Repaired:
    """Write a mended copy as a native data set.

    Args:
        config, report: of the check of `source`.

    Raises:
        DataError: nothing is left; RunError: `out` exists.
    """
    format = config.format or formats.detect(source)
    embeds = formats.embeds(source, format, config.options)
    done = Repaired()
    with new_folder(out) as folder:
        root = folder if embeds else formats.media_root(source, config.media_root)
        mend = _Mend(root, out, folder, embeds, report, done)
        items = formats.each(source, format, unpack=folder if embeds else None, **config.options)
        manifest = native.write_into(folder, unique(_kept(items, report, mend, done), out, "number"), where=out)
        done.kept = manifest.conversations
        write_json(folder / NOTES, notes(report, done))
    return done


def notes(report: Report, done: Repaired) -> dict[str, Any]:
    """What was done, for the file and for programs."""
    return {
        "kept": done.kept,
        "left_out": done.left_out,
        "mended": dict(sorted(done.mended.items())),
        "why_left_out": {code: n for code, n in sorted(report.findings.counts.items()) if KINDS[code].drops},
    }


def _kept(items: Iterator[Any], report: Report, mend: _Mend, done: Repaired) -> Iterator[Conversation]:
    seen: set[str] = set()
    stopped = False
    numbered = enumerate(items)
    while not stopped:
        try:
            number, (_, make) = next(numbered)
        except StopIteration:
            return
        except DataError:  # the check has told of it; what follows cannot be read
            stopped = True
            continue
        if number in report.bad:
            done.left_out += 1
            continue
        conversation = make()
        if conversation.id in seen:
            done.mended["duplicate-id"] += 1
        seen.add(conversation.id)
        yield mend(conversation)


class _Mend:
    """Mends one conversation after the other."""

    def __init__(self, root: Path, out: Path, folder: Path, embedded: bool, report: Report, done: Repaired) -> None:
        self.root, self.out, self.folder, self.embedded = root, out, folder, embedded
        self.report, self.done = report, done
        self.copied: dict[str, str] = {}

    def __call__(self, conversation: Conversation) -> Conversation:
        conversation = self._facts(conversation)
        media = [self._medium(one) for one in conversation.media]
        if media == conversation.media and self.embedded:
            return conversation
        if self.embedded:
            return conversation.model_copy(update={"media": media})
        (moved,) = formats.relocate([conversation], self.root, self.out)
        placed = [
            new if new.path != old.path else new.model_copy(update={"path": there.path})
            for old, new, there in zip(conversation.media, media, moved.media, strict=True)
        ]
        return moved.model_copy(update={"media": placed})

    def _facts(self, conversation: Conversation) -> Conversation:
        try:
            facts_of(conversation)
        except DataError:
            self.done.mended["facts"] += 1
            extra = {key: value for key, value in (conversation.extra or {}).items() if key != KEY}
            return conversation.model_copy(update={"extra": extra or None})
        return conversation

    def _medium(self, medium: Media) -> Media:
        code, suffix = self.report.media_problems.get(medium.path, (None, None))
        if code is None or medium.kind != "image":
            return medium
        source = formats.media_source(medium.path, self.root)
        width, height = image_size(source)
        if (medium.width, medium.height) not in ((None, None), (width, height)):
            self.done.mended["media-size"] += 1
            medium = medium.model_copy(update={"width": width, "height": height})
        if suffix is not None and isinstance(source, Path):
            medium = medium.model_copy(update={"path": self._renamed(medium.path, source, suffix)})
        return medium

    def _renamed(self, path: str, source: Path, suffix: str) -> str:
        """The path in OUT of a copy with the right name."""
        if path not in self.copied:
            name = f"images/renamed/{bytes_sha256(path.encode())[:12]}/{source.stem}{suffix}"
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, self.folder / name)
            self.copied[path] = name
            self.done.mended["media-misnamed"] += 1
        return self.copied[path]
