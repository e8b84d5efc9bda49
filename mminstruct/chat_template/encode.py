"""From the pieces of a prompt to token ids and labels.

    pieces ──join──▶ text, cut at images ──tokenizer──▶ ids + character offsets ──spans──▶ labels

The ids are those of the whole text: it is cut only where an image stands, each stretch is tokenised by itself, and a
beginning-of-sequence token stands once, in front (`tokenizer_image_token`, `llava/mm_utils.py`). A token is supervised
when its characters touch a supervised span. Nothing is ever tokenised twice and counted.
"""

from __future__ import annotations

import functools
from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from mminstruct.errors import ConfigError

IGNORE = -100  # the label of a token that no loss is taken on
IMAGE = -200  # the id that stands for an image, before it is replaced by as many ids as the image has tokens


# Which texts of a conversation a loss is taken on; see `Supervision`.
Loss = Literal["response", "response+instruction", "all"]


@dataclass(frozen=True)
class Piece:
    """A stretch of the rendered prompt: text, or (when `image` is set) the place of `media[image]`.

    Attributes:
        supervised: whether it is what the model has to write itself, an answer with its end mark.
        instruction: whether it is a user's own text.
        turn: which message it belongs to, counted from the last one, -1; 0 for what belongs to none.
    """

    text: str = ""
    supervised: bool = False
    image: int | None = None
    instruction: bool = False
    turn: int = 0


class Supervision(NamedTuple):
    """Which pieces of a prompt a loss is taken on.

    `response`: what the model has to write itself, an answer and the mark that ends it. `response+instruction`: the
    user's own texts as well, letter by letter, without any mark before or behind them (instruction modelling, arXiv
    2405.14394, which leaves the template out, too); no system text. `all`: every text, the template's included.
    Pictures never are, nor the token that a tokenizer puts in front of a text, nor the first token of a prompt, which
    nothing predicts.

    Attributes:
        last: of answers and instructions only those in so many last messages; default: in all.
    """

    loss: Loss = "response"
    last: int | None = None

    def covers(self, piece: Piece) -> bool:
        """Whether a loss is taken on a piece."""
        if piece.image is not None:
            return False
        if self.loss == "all":
            return True
        wanted = piece.supervised or (self.loss == "response+instruction" and piece.instruction)
        return wanted and (self.last is None or piece.turn >= -self.last)


RESPONSE = Supervision()


@dataclass
class EncodedPrompt:
    """`input_ids` and `labels` of one length (`IMAGE` and `IGNORE` at an image), `images`: media indices in order."""

    input_ids: MutableSequence[int] = field(default_factory=list)
    labels: MutableSequence[int] = field(default_factory=list)
    images: list[int] = field(default_factory=list)

    @property
    def supervised(self) -> int:
        """How many tokens a loss is taken on."""
        return sum(label != IGNORE for label in self.labels)


def encode(
    pieces: Sequence[Piece],
    tokenizer: Any,
    start_token: bool = True,
    start_behind_images: bool = False,
    supervision: Supervision = RESPONSE,
) -> EncodedPrompt:
    """Token ids and labels of a rendered prompt.

    Args:
        pieces: from `ChatTemplate.render`.
        tokenizer: a fast transformers tokenizer (one that knows character offsets).
        start_token: begin with the token that the tokenizer puts in front of a text by itself, if it does so.
        start_behind_images: put that token behind the images that the prompt begins with.
        supervision: which pieces a loss is taken on.

    Raises:
        ConfigError: the tokenizer is a slow one.
    """
    if not tokenizer.is_fast:
        raise ConfigError(
            f"{type(tokenizer).__name__} gives no character offsets; use its fast version (tokenizer.json)"
        )
    encoded = EncodedPrompt()
    start = _start_ids(tokenizer) if start_token else []
    stretch: list[Piece] = []
    for piece in pieces:
        if not start_behind_images or (piece.image is None and piece.text):
            _append_start(encoded, start)
            start = []
        if piece.image is None:
            stretch.append(piece)
            continue
        _append(encoded, stretch, tokenizer, supervision)
        stretch = []
        encoded.input_ids.append(IMAGE)
        encoded.labels.append(IGNORE)
        encoded.images.append(piece.image)
    _append_start(encoded, start)
    _append(encoded, stretch, tokenizer, supervision)
    encoded.labels[:1] = [IGNORE] * len(encoded.labels[:1])
    return encoded


def _append_start(encoded: EncodedPrompt, start: Sequence[int]) -> None:
    encoded.input_ids += start
    encoded.labels += [IGNORE] * len(start)


def _append(encoded: EncodedPrompt, stretch: Sequence[Piece], tokenizer: Any, supervision: Supervision) -> None:
    text = "".join(piece.text for piece in stretch)
    if not text:
        return
    spans, position = [], 0
    for piece in stretch:
        if supervision.covers(piece):
            spans.append((position, position + len(piece.text)))
        position += len(piece.text)
    result = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    encoded.input_ids += result["input_ids"]
    encoded.labels += labels_of(result["input_ids"], result["offset_mapping"], spans)


def labels_of(ids: Sequence[int], offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[int]:
    """The label of each token: its id where its characters touch a supervised span, else `IGNORE`.

    Args:
        offsets: the characters of each token, as a fast tokenizer gives them.
        spans: supervised stretches of the same text, in characters.
    """
    if not spans:  # as in every prompt of one turn: nothing to look up
        return [IGNORE] * len(ids)
    covered = _coverage(offsets)
    marks = bytearray(max((end for _, end in covered), default=0))  # of each character, whether it is supervised
    for start, end in spans:
        marks[start:end] = b"\1" * (min(end, len(marks)) - start)
    # A token without characters lies within a span or does not.
    return [
        token
        if (marks.find(1, start, end) >= 0 if start < end else any(first < start < last for first, last in spans))
        else IGNORE
        for token, (start, end) in zip(ids, covered, strict=True)
    ]


@functools.lru_cache(maxsize=8)  # asked again for every prompt
def _start_ids(tokenizer: Any) -> list[int]:
    """What the tokenizer puts in front of a text by itself: the beginning-of-sequence token, or nothing."""
    with_special = tokenizer("a", add_special_tokens=True)["input_ids"]
    return with_special[:1] if with_special[:1] == [tokenizer.bos_token_id] else []


def _coverage(offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Offsets widened so that no character is left uncovered.

    Byte-level tokenizers may trim a leading space from a token's offsets, down to an empty range for a token that is
    only a space; each token therefore covers the text from where the one before it ended.
    """
    covered, reached = [], 0
    for start, end in offsets:
        covered.append((min(start, reached), end))
        reached = max(reached, end)
    return covered
