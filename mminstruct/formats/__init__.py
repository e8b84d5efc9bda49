"""Data formats: every reader gives `Conversation`s and every writer takes them, lossless both ways.

    read(path) ──▶ Conversation, Conversation, ... ──▶ write(conversations, path, "llava")

`FORMATS` names them; a new format is a module with `read` and `write` and one entry here. Those whose pictures stand
within their files unpack them; two of them are read only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mminstruct.conversation import Conversation
from mminstruct.errors import ConfigError, DataError, RunError, did_you_mean
from mminstruct.formats import (
    llava,
    llava_plus,
    m2rag,
    mavis,
    messages,
    mimic_it,
    minigpt4,
    native,
    preferences,
    tables,
    textbind,
    webdataset,
)
from mminstruct.formats.items import Each, read_items
from mminstruct.formats.paths import media_root, media_source, relocate

__all__ = [
    "FORMATS",
    "Format",
    "detect",
    "each",
    "embeds",
    "files",
    "media_root",
    "media_source",
    "named",
    "read",
    "relocate",
    "write",
]

_LOOKED_AT = 1000  # items, until one says of which format a file is
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        summary: one line on what it is.
        read: path and options to conversations.
        write: conversations and a path to the number that were written; None: the format is read only.
        options: the options that `read` takes, each with the values it can have, the first is the default; no values:
            any text.
        is_folder: whether what is written is a folder, not a file.
        files: path, and the option `split` where there is one, to the files that hold the conversations.
        each: path, and the options `split` and `unpack` where there are such, to the items one by one, so that a broken
            one stops no other; None: the format is only read as a whole.
        embeds: likewise, to whether pictures stand within these files; then `read` takes `unpack`, the folder that they
            are written to, and paths are relative to it.
    """

    name: str
    summary: str
    read: Callable[..., Iterator[Conversation]]
    write: Callable[[Iterable[Conversation], Path], int] | None = None
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    is_folder: bool = False
    files: Callable[..., list[Path]] = lambda path: [path]
    embeds: Callable[..., bool] = lambda path: False
    each: Callable[..., Iterator[Each]] | None = None


def _write_native(conversations: Iterable[Conversation], path: Path) -> int:
    return native.write(conversations, path).conversations


def _write_openai(conversations: Iterable[Conversation], path: Path) -> int:
    return messages.write(conversations, path, style="openai")


def _write_llava_preferences(conversations: Iterable[Conversation], path: Path) -> int:
    return preferences.write(conversations, path, style="llava")


_IDS: dict[str, tuple[str, ...]] = {"duplicate_ids": ("error", "number")}

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        format.name: format
        for format in (
            Format(
                "native",
                "this project's folder of shards and a manifest",
                native.read,
                _write_native,
                is_folder=True,
                files=native.files,
                each=native.each,
            ),
            Format(
                "llava",
                "LLaVA JSON: conversations with <image> marks",
                llava.read,
                llava.write,
                options={"image_position": ("keep", "first")} | _IDS,
                each=llava.each,
            ),
            Format(
                "llava-plus",
                "LLaVA JSON with calls of tools: thoughts, actions and value in each answer",
                llava_plus.read,
                llava_plus.write,
                options=_IDS,
            ),
            Format(
                "textbind",
                "interleaved dialogues with a list of images in each turn",
                textbind.read,
                textbind.write,
                options=_IDS,
            ),
            Format(
                "messages",
                "Hugging Face messages with inline images",
                messages.read,
                messages.write,
                options=_IDS,
                each=messages.each,
            ),
            Format(
                "openai",
                "OpenAI messages with image_url parts",
                messages.read,
                _write_openai,
                options=_IDS,
                each=messages.each,
            ),
            Format(
                "preferences",
                "pairs of answers as TRL takes them",
                preferences.read,
                preferences.write,
                options=_IDS,
                each=preferences.each,
            ),
            Format(
                "llava-preferences",
                "pairs of answers as LLaVA-RLHF has them",
                preferences.read,
                _write_llava_preferences,
                options=_IDS,
                each=preferences.each,
            ),
            Format(
                "minicpmv",
                "MiniCPM-V JSON: images named <image_00>, <image_01>, ... in the text",
                m2rag.read_minicpmv,
                m2rag.write_minicpmv,
                options=_IDS,
            ),
            Format(
                "llamafactory",
                "LLaMA-Factory messages: <image> marks in the text",
                m2rag.read_llamafactory,
                m2rag.write_llamafactory,
                options=_IDS,
            ),
            Format(
                "mimicit",
                "MIMIC-IT: instructions, the links between them, and pictures in base64",
                mimic_it.read,
                mimic_it.write,
                is_folder=True,
                files=mimic_it.files,
                embeds=mimic_it.embeds,
            ),
            Format(
                "minigpt4",
                "MiniGPT-4's captions: filter_cap.json beside a folder of pictures",
                minigpt4.read,
                minigpt4.write,
                options=_IDS,
                is_folder=True,
                files=minigpt4.files,
                each=minigpt4.each,
            ),
            Format(
                "mavis",
                "MAVIS: a table of mathematical problems in three variants, with captions",
                mavis.read,
                mavis.write,
                options={"language": ("en", "zh", "all"), "split": ()} | _IDS,
                files=tables.files,
                embeds=lambda path, split=None: True,
                each=mavis.each,
            ),
            Format(
                "table",
                "Parquet, or what datasets' save_to_disk wrote; read only",
                tables.read,
                options={"split": ()} | _IDS,
                files=tables.files,
                embeds=tables.embeds,
                each=tables.each,
            ),
            Format(
                "webdataset",
                "tar shards of pictures beside JSON or captions; read only",
                webdataset.read,
                options=_IDS,
                files=webdataset.files,
                embeds=lambda path: True,
                each=webdataset.each,
            ),
        )
    }
)


def _written() -> list[str]:
    return [name for name, found in FORMATS.items() if found.write is not None]


def named(name: str) -> Format:
    """The format of a name. Raises `ConfigError` with the nearest names."""
    if name not in FORMATS:
        raise ConfigError(f"no data format is called {name!r}.{did_you_mean(name, FORMATS)}")
    return FORMATS[name]


def detect(path: Path) -> str:
    """The name of the format of a data set, by its files or its first item.

    Raises:
        DataError: the path does not exist, holds nothing, or is of no known format.
    """
    if (path / native.MANIFEST).is_file():
        return "native"
    if mimic_it.is_one(path):
        return "mimicit"
    if minigpt4.is_one(path):
        return "minigpt4"
    if tables.is_one(path):
        return "mavis" if mavis.is_one(path) else "table"
    if webdataset.is_one(path):
        return "webdataset"
    if path.is_dir():
        raise DataError(
            f"{path} has no {native.MANIFEST}, no .parquet, no .tar and no state.json of datasets; give a data set "
            "folder (of MIMIC-IT too: with XX_instructions.json; of MiniGPT-4: with filter_cap.json), or a JSON file"
        )
    if not path.exists() and _HUB_NAME.fullmatch(str(path)) and not path.suffix:
        raise DataError(
            f"{path} does not exist; a data set of the Hugging Face hub is downloaded first: "
            f"hf download {path} --repo-type dataset --local-dir FOLDER"
        )
    first = next(read_items(path), None)
    if first is None:
        raise DataError(f"{path} is empty; write or fetch the data set again")
    item = first[1]
    if preferences.is_one(item) and "messages" not in item:
        return "preferences"
    if isinstance(item, dict) and "conversations" in item:
        if m2rag.is_minicpmv(item):
            return "minicpmv"
        return "llava-plus" if "unique_id" in item else "llava"
    if isinstance(item, dict) and "conversation" in item:
        return "textbind"
    if isinstance(item, dict) and "messages" in item:
        return _messages_or_marks(path)
    raise DataError(
        f"{path} is of no known format: its first item has none of 'conversations' (llava, llava-plus), 'conversation' "
        f"(textbind) and 'messages' (messages), nor is it a pair (preferences); "
        f"known formats: {', '.join(sorted(FORMATS))}"
    )


def _messages_or_marks(path: Path) -> str:
    """Of files with `messages`: the first item with an image says whether images are parts or marks in the text."""
    for _, item in islice(read_items(path), _LOOKED_AT):
        if isinstance(item, dict) and m2rag.is_llamafactory(item):
            return "llamafactory"
        if isinstance(item, dict) and m2rag.has_parts(item):
            return "messages"
    return "messages"


def read(
    path: Path, format: str | None = None, *, unpack: Path | None = None, **options: Any
) -> Iterator[Conversation]:
    """The conversations of a data set, one at a time. Without `format`, the data set says what it is.

    Args:
        unpack: the folder that pictures are written to which stand within the data set's files (`embeds`), and their
            paths are relative to; left out, nothing is written.

    Raises:
        ConfigError: an unknown format, or an option that it does not have or that does not fit.
        DataError: the data set is empty or broken; while iterating, with the place.
    """
    chosen = _chosen(path, format, options)
    if embeds(path, chosen.name, options):
        return _not_empty(chosen.read(path, unpack=unpack, **options), path)
    return _not_empty(chosen.read(path, **options), path)


def each(path: Path, format: str | None = None, *, unpack: Path | None = None, **options: Any) -> Iterator[Each]:
    """The items of a data set, each to be made by itself, so that a broken one stops no other.

    Those of a format that is only read as a whole end with the first broken one. Whether ids are unique is not looked
    at, nor whether a native data set's shards are those of its manifest.

    Raises:
        ConfigError, DataError: as `read`.
    """
    chosen = _chosen(path, format, options)
    given = options | ({} if unpack is None else {"unpack": unpack})
    if chosen.each is not None:
        yield from chosen.each(path, **given)
        return
    if "duplicate_ids" in chosen.options:
        given["duplicate_ids"] = "number"
    for number, conversation in enumerate(chosen.read(path, **given)):
        yield f"{path}, item {number}", partial(_same, conversation)


def _same(conversation: Conversation) -> Conversation:
    return conversation


def _chosen(path: Path, format: str | None, options: Mapping[str, Any]) -> Format:
    """The format that is named, or that the data set has. Raises `ConfigError` where an option does not fit it."""
    chosen = named(detect(path) if format is None else format)
    for option, value in options.items():
        if option not in chosen.options:
            raise ConfigError(f"reading the format {chosen.name!r} has no option {option!r}; leave it out")
        if chosen.options[option] and value not in chosen.options[option]:
            raise ConfigError(f"the option {option} is {value!r}; give {' or '.join(chosen.options[option])}")
    return chosen


def embeds(path: Path, format: str, options: Mapping[str, Any] = MappingProxyType({})) -> bool:
    """Whether a data set's pictures stand within its files."""
    return named(format).embeds(path, **_split(options))


def _split(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name == "split"}


def files(path: Path, format: str, options: Mapping[str, Any] = MappingProxyType({})) -> list[Path]:
    """The files that hold a data set's conversations, and in some formats its media.

    Raises:
        DataError: one of them is missing.
    """
    found = named(format).files(path, **_split(options))
    for file in found:
        if not file.is_file():
            raise DataError(f"{file} does not exist; check the path, or copy the data set again")
    return found


def _not_empty(conversations: Iterator[Conversation], path: Path) -> Iterator[Conversation]:
    empty = True
    for conversation in conversations:
        empty = False
        yield conversation
    if empty:
        raise DataError(f"{path} has no conversations; write or fetch the data set again")


def write(conversations: Iterable[Conversation], path: Path, format: str) -> int:
    """Writes a new data set and returns its number of conversations. It appears whole or not at all.

    Raises:
        ConfigError: an unknown format, or a file ending that does not fit it.
        RunError: `path` already exists.
        DataError: a record that the format cannot hold.
    """
    chosen = named(format)
    if chosen.write is None:
        writable = [name for name, found in FORMATS.items() if found.write]
        raise ConfigError(f"the format {format!r} is read only; write {', '.join(writable[:-1])} or {writable[-1]}")
    if path.exists() and not chosen.is_folder:
        raise RunError(f"{path} already exists; give another name or remove it")
    return chosen.write(conversations, path)
