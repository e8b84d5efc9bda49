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
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from mminstruct import formats
from mminstruct.chat_template import IGNORE, IMAGE, Loss, Supervision
from mminstruct.chat_template.encode import EncodedPrompt
from mminstruct.conversation import Conversation, Media, TextPart
from mminstruct.data.source import Part
from mminstruct.errors import DataError, MediaError
from mminstruct.files import made_once, read_json, sha256, write_array, write_json
from mminstruct.media import image_size
from mminstruct.models.base_processor import BaseProcessor

VERSION = 1  # of the files; others are made anew
# Keys of a tokenizer's config that say how it was loaded, not what it does.
_LOADING = ("local_files_only", "is_local", "name_or_path")


@dataclass(frozen=True)
class TokenIndex:
    """Of each conversation, `[n]`:

    Attributes:
        tokens: all its tokens, media included; 0 where the template does not take it.
        prefixes: the first ones, which it shares with others: those up to the end of its first picture (`seen_prefix`),
            or what the two branches of a pair begin with.
        supervised: those that a loss is taken on.
        turns: messages that are kept of it, where longer ones are cut; -1 for all of them, 0 where no cut is enough.
        problems: by number of the conversation, why the template does not take it.
    """

    tokens: np.ndarray
    prefixes: np.ndarray
    supervised: np.ndarray
    turns: np.ndarray
    problems: dict[int, str]


Encode = Callable[[int, Conversation], EncodedPrompt]
Prefix = Callable[[int, EncodedPrompt, Sequence[int]], int]


def token_index(
    part: Part,
    processor: BaseProcessor,
    encode: Encode,
    prefix: Prefix,
    cache: Path | None,
    cut_to: int | None = None,
    loss: Loss = "response",
    view: str = "conversation",
) -> TokenIndex:
    """The index of one source, from `cache` where it is there.

    Args:
        cut_to: count longer conversations without the turns behind so many tokens, see `cut`.
        encode: what the template makes of a conversation, given its number in the source; the same as
            `processor.template.encode`, but it may keep what it made.
        prefix: how many of its first tokens a conversation shares with others, given its number, what it is encoded as
            and how many tokens each of its media takes.
        cache: None: nothing is kept on disk.
        loss: which texts are supervised.
        view: a name of what `encode` makes of a conversation, where it is something else than the whole of it.
    """
    if cache is None or part.digest is None:
        return _count(part, processor, encode, prefix, cut_to, loss)
    key = json.dumps([VERSION, part.digest, fingerprint(processor), cut_to, loss, view])
    made: list[TokenIndex] = []

    def make(folder: Path) -> None:
        made.append(_count(part, processor, encode, prefix, cut_to, loss))
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
        content = json.dumps([[path.relative_to(folder).as_posix(), _content(path)] for path in files])
    return hashlib.sha256(content.encode()).hexdigest()


def _content(path: Path) -> Any:
    if path.name != "tokenizer_config.json":
        return sha256(path)
    # transformers notes there how a tokenizer was loaded, too.
    return {name: value for name, value in read_json(path).items() if name not in _LOADING}


def _count(
    part: Part, processor: BaseProcessor, encode: Encode, prefix: Prefix, cut_to: int | None, loss: Loss
) -> TokenIndex:
    rows = np.zeros((4, len(part)), np.int32)
    rows[3] = -1
    problems: dict[int, str] = {}
    sizes: dict[str, Media] = {}
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
        places = [
            processor.places(_with_size(media, part.media_root, sizes) if processor.sized else media)
            for media in conversation.media
        ]
        tokens, supervised = measure(encoded, places)
        rows[:3, number] = tokens, prefix(number, encoded, places), supervised
        if cut_to is not None and rows[0, number] > cut_to:
            rows[:, number] = _cut_to(conversation, places, processor, cut_to, loss)
    return TokenIndex(rows[0], rows[1], rows[2], rows[3], problems)


def _with_size(media: Media, root: Path, known: dict[str, Media]) -> Media:
    """The medium with the size that its file's header says, where the record says none."""
    if media.kind != "image" or (media.width is not None and media.height is not None):
        return media
    if media.path not in known:
        try:
            width, height = image_size(formats.media_source(media.path, root))
            known[media.path] = media.model_copy(update={"width": width, "height": height})
        except MediaError:
            known[media.path] = media  # who opens it says so, or has left it out before
    return known[media.path]


def _cut_to(
    conversation: Conversation, places: Sequence[int], processor: BaseProcessor, limit: int, loss: Loss
) -> list[int]:
    """What `rows` hold of a conversation that is cut to a number of tokens, as little as that takes."""
    for turns in range(len(conversation.messages) - 1, 0, -1):
        if conversation.preference is not None or conversation.messages[turns - 1].role != "assistant":
            continue
        try:
            encoded = processor.template.encode(
                conversation.messages[:turns], processor.tokenizer, supervision=Supervision(loss)
            )
        except DataError:
            continue  # the template wants more than these turns
        tokens, supervised = measure(encoded, places)
        if tokens <= limit and supervised:
            return [tokens, seen_prefix(encoded, places), supervised, turns]
    return [0, 0, 0, 0]


def cut(conversation: Conversation, turns: int) -> Conversation:
    """The conversation's first turns, with the media that have a place there."""
    messages = conversation.messages[:turns]
    used = sorted({part.index for message in messages for part in message.content if not isinstance(part, TextPart)})
    renumbered = [
        message.model_copy(
            update={
                "content": [
                    part if isinstance(part, TextPart) else part.model_copy(update={"index": used.index(part.index)})
                    for part in message.content
                ]
            }
        )
        for message in messages
    ]
    media = [conversation.media[index] for index in used]
    return conversation.model_copy(update={"messages": renumbered, "media": media})


def measure(encoded: EncodedPrompt, takes: Sequence[int]) -> tuple[int, int]:
    """(tokens, supervised) of one prompt; see `TokenIndex`.

    Args:
        takes: how many tokens each medium of the conversation takes.
    """
    places = [takes[index] for index in encoded.images]
    return len(encoded.input_ids) - len(places) + sum(places), encoded.supervised


def seen_prefix(encoded: EncodedPrompt, takes: Sequence[int]) -> int:
    """The tokens of a prompt up to the end of its first picture; 0 where no loss is left to take behind it."""
    learnt = next((number for number, label in enumerate(encoded.labels) if label != IGNORE), 0)
    first = encoded.input_ids.index(IMAGE) if encoded.images else learnt
    return first + takes[encoded.images[0]] if first + 1 < learnt else 0


def joined_index(parts: Sequence[TokenIndex]) -> TokenIndex:
    """The indices of several sources as one, by global index."""
    problems: dict[int, str] = {}
    start = 0
    for part in parts:
        problems |= {start + number: why for number, why in part.problems.items()}
        start += len(part.tokens)
    return TokenIndex(
        np.concatenate([part.tokens for part in parts]),
        np.concatenate([part.prefixes for part in parts]),
        np.concatenate([part.supervised for part in parts]),
        np.concatenate([part.turns for part in parts]),
        problems,
    )


def _save(folder: Path, index: TokenIndex) -> None:
    write_array(folder / "tokens.npy", np.stack([index.tokens, index.prefixes, index.supervised, index.turns]))
    write_json(folder / "problems.json", {str(number): why for number, why in index.problems.items()})


def _load(folder: Path, count: int) -> TokenIndex:
    try:
        rows = np.load(folder / "tokens.npy")
    except (OSError, ValueError):
        rows = None
    if rows is None or rows.shape != (4, count):
        raise DataError(f"{folder} is not a whole index of tokens; remove the folder, it is made again")
    problems = read_json(folder / "problems.json")
    return TokenIndex(rows[0], rows[1], rows[2], rows[3], {int(number): why for number, why in problems.items()})
