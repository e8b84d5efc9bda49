"""Runs a builder: its conversations and media become a native data set that appears whole or not at all.

    builder.build(folder) ──each checked──▶ mminstruct.formats.native ──▶ OUT/{manifest.json, shard-*.jsonl, images/}

The manifest notes the builder, its version and every option. No time, host or path is noted, so the same builder with
the same options writes the same bytes anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from mminstruct.building.builder import Builder
from mminstruct.conversation import Conversation
from mminstruct.errors import DataError
from mminstruct.files import new_folder
from mminstruct.formats.native import Manifest, write_into


def run(builder: Builder, out: Path, advance: Callable[[], None] | None = None) -> Manifest:
    """The manifest of the data set that `builder` wrote to `out`.

    Args:
        advance: called after each conversation, for a progress bar.

    Raises:
        RunError: `out` exists and is not an empty folder.
        DataError: the builder gave nothing, an id twice, or a record whose media file it did not write.
    """
    note = {
        "name": builder.name,
        "version": builder.version,
        "licence": builder.licence,
        "options": builder.options.model_dump(mode="json"),
    }
    with new_folder(out) as folder:
        return write_into(folder, _checked(builder, folder, advance), where=out, builder=note)


def _checked(builder: Builder, folder: Path, advance: Callable[[], None] | None) -> Iterator[Conversation]:
    for conversation in builder.build(folder):
        for media in conversation.media:
            if media.path.startswith("data:") or Path(media.path).is_absolute():
                continue
            if not (folder / media.path).is_file():
                raise DataError(
                    f"the builder {builder.name} gave {conversation.id!r} with {media.path}, which it did not write; "
                    f"write media below the folder that `build` is given"
                )
        yield conversation
        if advance is not None:
            advance()
