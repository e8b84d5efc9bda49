"""Answers kept to a JSON schema: at each token those are ruled out that no valid answer goes on with.

    schema ──Grammars(model, tokenizer)──▶ Constraint ──allowed(logits [V])──▶ sampler ──token──▶ took(token) ... over

llguidance does it (github.com/guidance-ai/llguidance). It fetches nothing that a schema refers to, and gives up schemas
that would take it too long.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from mminstruct.errors import ConfigError, DataError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from transformers import PreTrainedTokenizerBase

# A blank may stand behind a comma and a colon, none elsewhere: what is free to write blanks can do so until its answer
# is full. (With a limit, as in `[ \n]{0,20}`, llguidance 1.9.1 lets tokens through that it then refuses.)
_BLANKS = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
# Chat templates let an answer begin with a blank.
_GRAMMAR = 'start: BLANK? value\nBLANK: " "\nvalue: %json {}\n'
_LOST = "the answer could not be kept to its JSON schema; simplify it, or leave it out"


class Grammars:
    """Of one model's tokenizer, which is taken apart when the first schema comes.

    Args:
        ends: the ids that end an answer.
        never: ids that are never generated.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ends: Collection[int], never: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self._ends = sorted(ends)
        self._never = sorted(never)
        self._known: LLTokenizer | None = None

    def constraint(self, schema: str) -> Constraint:
        """What keeps one answer to this schema, a JSON object.

        Raises:
            ConfigError: llguidance is missing, or cannot take the tokenizer apart.
            DataError: the schema is none, too large, or has what cannot be kept to.
        """
        if importlib.util.find_spec("llguidance") is None:
            raise ConfigError("JSON schemas need llguidance, which is not installed; run: pip install llguidance")
        from llguidance import LLMatcher

        # Its own settings last: a schema could have brought others.
        named = json.loads(schema) | {"x-guidance": _BLANKS}
        matcher = LLMatcher(self._taken_apart(), _GRAMMAR.replace("{}", json.dumps(named)), log_level=0)
        if matcher.is_error():
            problem = matcher.get_error().partition("\n")[0].rpartition("failed to compile JSON schema: ")[2]
            raise DataError(f"answers cannot be kept to this JSON schema: {problem[:200]}; change it, or leave it out")
        return Constraint(matcher, self._taken_apart().vocab_size, self._never)

    def _taken_apart(self) -> LLTokenizer:
        if self._known is None:
            from llguidance.hf import from_tokenizer

            if not isinstance(self._tokenizer, PreTrainedTokenizerFast):
                raise ConfigError("JSON schemas need a fast tokenizer, which this model has not; leave the schema out")
            try:
                self._known = from_tokenizer(self._tokenizer, eos_token=self._ends or None)
            except ValueError as error:
                raise ConfigError(f"this model's tokenizer knows no JSON schemas ({str(error)[:100]})") from None
        return self._known


class Constraint:
    """Where one answer stands in its schema.

    Args:
        vocabulary: how many tokens the matcher knows.
        never: ids that are out whatever it says.
    """

    def __init__(self, matcher: LLMatcher, vocabulary: int, never: Collection[int]) -> None:
        self._matcher = matcher
        self._mask = np.zeros((1, -(-vocabulary // 32)), np.int32)
        self._never = list(never)

    def allowed(self, logits: torch.Tensor) -> torch.Tensor:
        """`logits` `[V]` with minus infinity where the answer cannot go on.

        Raises:
            DataError: nowhere; the schema was too much after all.
        """
        from llguidance.numpy import fill_next_token_bitmask

        fill_next_token_bitmask(self._matcher, self._mask, 0)
        bits = np.unpackbits(self._mask[0].view(np.uint8), bitorder="little", count=len(logits))
        bits[self._never] = 0
        if self._matcher.is_error() or not bits.any():
            raise DataError(_LOST)
        return logits.masked_fill(torch.from_numpy(bits == 0).to(logits.device), -torch.inf)

    def took(self, token: int) -> None:
        """This one was chosen. Raises `DataError` where the matcher, which let it through, does not take it."""
        if not self._matcher.consume_token(token):
            raise DataError(_LOST)

    @property
    def over(self) -> bool:
        """Whether nothing can come any more."""
        return self._matcher.is_stopped()
