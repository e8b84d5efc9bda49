"""Where the media of a data set are: paths in records are relative to one folder, the data set's media root."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mminstruct.conversation import Conversation


def media_root(path: Path, override: Path | None = None) -> Path:
    """The folder that relative media paths of a data set start from.

    A data set folder is its own media root; for a file it is the folder that holds the file. LLaVA sets often have
    theirs elsewhere (LLaVA's `--image_folder`): that is `override`.
    """
    if override is not None:
        return override
    return path if path.is_dir() else path.parent


def media_source(path: str, root: Path) -> str | Path:
    """What `open_image` takes for a media path: a `data:` URI as it is, anything else below the media root."""
    return path if path.startswith("data:") else root / path


def relocate(conversations: Iterable[Conversation], old: Path, new: Path) -> Iterator[Conversation]:
    """The conversations with relative media paths rewritten so that they lead from `new` to the same files.

    Absolute paths and `data:` URIs stay; where both roots are one folder, every path does.
    """
    old, new = old.resolve(), new.resolve()
    for conversation in conversations:
        if old != new and conversation.media:
            media = [one.model_copy(update={"path": _moved(one.path, old, new)}) for one in conversation.media]
            conversation = conversation.model_copy(update={"media": media})
        yield conversation


def _moved(path: str, old: Path, new: Path) -> str:
    if path.startswith("data:") or Path(path).is_absolute():
        return path
    return Path(os.path.relpath(old / path, new)).as_posix()
