"""Token ids, one at a time, into text that never has to be taken back.

A character may need several tokens and a token's text may depend on the one before (leading spaces), so ids are decoded
in a short window that starts at the last point where the text was complete; what could still change waits.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REPLACEMENT = "\ufffd"
# An unfinished UTF-8 character is at most three bytes, which decode to at most this many replacement characters.
# A longer run is text that is really broken, and only its last three could still become something else.
MAX_UNFINISHED = 3


class Detokenizer:
    """`add(token)` returns the text that became complete with this token ('' while a character is unfinished).

    Special tokens are left out. Joined, the pieces and `finish()` are the text of all tokens together.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._window = 0  # the first id of the window,
        self._read = 0  # the first one whose text was not yet given out as a whole,
        self._ahead = 0  # and how many characters of it and those after it were given out all the same

    def add(self, token: int) -> str:
        self._ids.append(token)
        new = self._new_text()
        unfinished = len(new) - len(new.rstrip(REPLACEMENT))
        if unfinished == 0:
            return self._advance(new)
        stable = new[: len(new) - min(unfinished, MAX_UNFINISHED)]
        piece = stable[self._ahead :]
        self._ahead = max(self._ahead, len(stable))
        return piece

    def finish(self) -> str:
        """What still waits, complete or not."""
        return self._advance(self._new_text())

    def _advance(self, new: str) -> str:
        piece = new[self._ahead :]
        # A token without text (a special one) is no anchor: the window must begin with something that is decoded.
        if new:
            self._window = self._read
        self._read = len(self._ids)
        self._ahead = 0
        return piece

    def _new_text(self) -> str:
        given = self._decode(self._ids[self._window : self._read])
        whole = self._decode(self._ids[self._window :])
        return whole[len(given) :]

    def _decode(self, ids: list[int]) -> str:
        text = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text


def printable(text: str) -> str:
    """Text without control characters except tab and line feed: a model can spell escape sequences of a terminal."""
    return "".join(char for char in text if char in "\t\n" or unicodedata.category(char) != "Cc")
