"""The token index: how many tokens each conversation of a source has, found once and kept on disk.

source ──template, tokenizer, places of its media──▶ TokenIndex, in a folder of the cache that is named after the
                                                     source's content and the processor's files
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from mminstruct.chat_template import IGNORE, IMAGE
from mminstruct.chat_template.encode import EncodedPrompt
from mminstruct.conversation import Conversation
from mminstruct.data.source import Listed, Source
from mminstruct.errors import DataError
from mminstruct.files import made_once, read_json, sha256, write_array, write_json
from mminstruct.models.base_processor import BaseProcessor

VERSION = 1  # of the files; others are made anew


@dataclass(frozen=True)
class TokenIndex:
    """Of each conversation, `[n]`:

    Attributes:
        tokens: all its tokens, media included; 0 where the template does not take it.
        prefixes: those up to the end of its first picture; 0 where no loss is left to take behind it.
        supervised: those that a loss is taken on.
        problems: by number of the conversation, why the template does not take it.
    """

    tokens: np.ndarray
    prefixes: np.ndarray
    supervised: np.ndarray
    problems: dict[int, str]


Encode = Callable[[int, Conversation], EncodedPrompt]


def token_index(part: Source | Listed, processor: BaseProcessor, encode: Encode, cache: Path | None) -> TokenIndex:
    """The index of one source, from `cache` where it is there.

    Args:
        encode: what the template makes of a conversation, given its number in the source; the same as
            `processor.template.encode`, but it may keep what it made.
        cache: None: nothing is kept on disk.
    """
    if cache is None or part.digest is None:
        return _count(part, processor, encode)
    key = json.dumps([VERSION, part.digest, fingerprint(processor)])
    made: list[TokenIndex] = []

    def make(folder: Path) -> None:
        made.append(_count(part, processor, encode))
        _save(folder, made[0])

    folder = made_once(cache / f"tokens-{hashlib.sha256(key.encode()).hexdigest()[:16]}", make)
    return made[0] if made else _load(folder, len(part))


@functools.lru_cache(maxsize=8)  # asked for every source
def fingerprint(processor: BaseProcessor) -> str:
    """A hash of all that a processor does to text and pictures: of the files that it is saved as."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        processor.save(folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        content = json.dumps([[path.relative_to(folder).as_posix(), sha256(path)] for path in files])
    return hashlib.sha256(content.encode()).hexdigest()


def _count(part: Source | Listed, processor: BaseProcessor, encode: Encode) -> TokenIndex:
    rows = np.zeros((3, len(part)), np.int32)
    problems: dict[int, str] = {}
    numbers = track(
        range(len(part)),
        description=f"counting tokens of {part.name}",
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    for number in numbers:
        conversation = part[number]
        try:
            encoded = encode(number, conversation)
        except DataError as error:
            problems[number] = str(error)
            continue
        rows[:, number] = measure(encoded, [processor.places(conversation.media[index]) for index in encoded.images])
    return TokenIndex(rows[0], rows[1], rows[2], problems)


def measure(encoded: EncodedPrompt, places: Sequence[int]) -> tuple[int, int, int]:
    """(tokens, prefix, supervised) of one prompt; see `TokenIndex`.

    Args:
        places: how many tokens each of its media takes.
    """
    tokens = len(encoded.input_ids) - len(places) + sum(places)
    supervised = [number for number, label in enumerate(encoded.labels) if label != IGNORE]
    prefix = 0
    if places and supervised:
        first = encoded.input_ids.index(IMAGE)
        if first + 1 < supervised[0]:
            prefix = first + places[0]
    return tokens, prefix, len(supervised)


def _save(folder: Path, index: TokenIndex) -> None:
    write_array(folder / "tokens.npy", np.stack([index.tokens, index.prefixes, index.supervised]))
    write_json(folder / "problems.json", {str(number): why for number, why in index.problems.items()})


def _load(folder: Path, count: int) -> TokenIndex:
    try:
        rows = np.load(folder / "tokens.npy")
    except (OSError, ValueError):
        rows = None
    if rows is None or rows.shape != (3, count):
        raise DataError(f"{folder} is not a whole index of tokens; remove the folder, it is made again")
    problems = read_json(folder / "problems.json")
    return TokenIndex(rows[0], rows[1], rows[2], {int(number): why for number, why in problems.items()})
