"""Makes one data set of the shares that several machines built: byte for byte what one machine would have built.

    share 0 of 3: items 0, 3, 6, ...  ┐
    share 1 of 3: items 1, 4, 7, ...  ├─▶ items 0, 1, 2, 3, ... in parts as if one run had made them
    share 2 of 3: items 2, 5, 8, ...  ┘

A share's `build.jsonl` says of each item what it gave, so nothing is built again and no model is asked.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mminstruct.building.call_log import CallLog
from mminstruct.building.unfinished import (
    CALLS,
    Made,
    PartWriter,
    UnfinishedBuild,
    read_parts,
)
from mminstruct.errors import DataError
from mminstruct.files import sync
from mminstruct.formats import native


def join(shares: Sequence[Path], out: Path) -> native.Manifest:
    """The manifest of the data set that `out` becomes; media files are hard links where the file system can.

    Raises:
        DataError: the folders are not all shares of one build, each once.
        RunError: `out` exists, or another run is writing it.
    """
    heads = [read_parts(share)[0] for share in shares]
    note = _common(heads, shares)
    ordered = [share for _, share in sorted(zip((head["share"][0] for head in heads), shares, strict=True))]
    build = UnfinishedBuild(out, note, resume=True)
    try:
        logs = [share / CALLS for share in ordered if (share / CALLS).is_file()]
        with ExitStack() as stack:
            log = stack.enter_context(CallLog(build.folder / CALLS)) if logs else None
            for path in logs:
                assert log is not None
                log.add(path)
        sync([file for share in ordered for file in _link_media(share, build.folder)])
        writer = PartWriter(build, note["per_shard"])
        items = _in_turn([_items(share) for share in ordered])
        for made in itertools.islice(items, build.items, None):
            writer.take(made)
        writer.end()
        built = {key: value for key, value in note.items() if key != "per_shard"}
        return build.finish(built, build.folder / CALLS if logs else None)
    except BaseException:
        build.leave()
        raise


def _common(heads: Sequence[dict[str, Any]], shares: Sequence[Path]) -> dict[str, Any]:
    """What the shares are of, without which share each is."""
    for head, share in zip(heads, shares, strict=True):
        if "share" not in head:
            raise DataError(f"{share} is no share of a build; give the folders that --shard wrote")
        if not (share / native.MANIFEST).is_file():
            raise DataError(f"{share} is not whole yet; end its build with --resume")
    notes = [{key: value for key, value in head.items() if key != "share"} for head in heads]
    for note, share in zip(notes, shares, strict=True):
        for key in sorted({*note, *notes[0]}):
            if note.get(key) != notes[0].get(key):
                raise DataError(
                    f"{share} was built with {key} {note.get(key)}, {shares[0]} with {notes[0].get(key)}; "
                    f"join shares of one build"
                )
    count = heads[0]["share"][1]
    found = Counter((number, of) for number, of in (head["share"] for head in heads))
    wanted = Counter((number, count) for number in range(count))
    if found != wanted:
        missing = sorted(number for number, _ in wanted - found)
        twice = sorted(f"{number}/{of}" for number, of in found - wanted)
        raise DataError(
            f"these are not the {count} shares of one build: missing {missing or 'none'}, too many {twice or 'none'}"
        )
    return notes[0]


def _items(share: Path) -> Iterator[Made]:
    """What became of each item of a share, in its order."""
    for part in read_parts(share)[1]:
        conversations = iter(()) if part.shard is None else native.read_shard(share, part.shard)
        for place, count in enumerate(part.made):
            dropped = Counter(part.dropped.get(place, {}))
            own = list(itertools.islice(conversations, count))
            left = part.left.get(place, [])
            yield Made(own, dropped, left, part.failed.get(place), part.asked.get(place, []))
        list(conversations)  # to its end, where it is checked


def _in_turn(streams: Sequence[Iterator[Made]]) -> Iterator[Made]:
    """One of each, in turn, until all are at their end. Raises `DataError` where one ends too early."""
    for row in itertools.zip_longest(*streams):
        ended = False
        for made in row:
            if made is None:
                ended = True
            elif ended:
                raise DataError("a share has fewer items than it must have; build it again")
            else:
                yield made


def _link_media(share: Path, folder: Path) -> list[Path]:
    """Give a share's media files their places in `folder` too."""
    files = []
    for source in sorted(path for path in share.glob("*/**/*") if path.is_file()):
        target = folder / source.relative_to(share)
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, target)
        files.append(target)
    return files
