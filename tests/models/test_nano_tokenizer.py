"""The nano tokenizer: any text comes back, a word is one token wherever it stands, a turn's opening is one token."""

from __future__ import annotations

import random

import pytest
from transformers import PreTrainedTokenizerBase

import mminstruct
from mminstruct.conversation import Message, text


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return mminstruct.create("nano")[1].tokenizer


def tokens(tokenizer: PreTrainedTokenizerBase, written: str) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokenizer(written, add_special_tokens=False)["input_ids"])


def test_any_text_comes_back(tokenizer: PreTrainedTokenizerBase) -> None:
    draw = random.Random(0)
    pieces = [" ", "\n", "\t", "\r", "a", "blue", ".", "é", "日", "🦊"]
    for _ in range(3000):
        written = "".join(draw.choices(pieces, k=draw.randrange(12)))
        assert tokenizer.decode(tokenizer(written, add_special_tokens=False)["input_ids"]) == written


@pytest.mark.parametrize("word", ["blue", "rectangle", "no", "is"])
def test_a_word_is_the_same_token_everywhere(tokenizer: PreTrainedTokenizerBase, word: str) -> None:
    (alone,) = tokens(tokenizer, word)
    assert tokens(tokenizer, f"a {word}")[-1] == alone
    assert tokens(tokenizer, f"a.\n\n{word}")[-1] == alone
    assert tokens(tokenizer, f"<|im_start|>assistant\n{word}<|im_end|>")[-2] == alone


def test_what_an_answer_begins_behind_is_one_token_of_its_own(tokenizer: PreTrainedTokenizerBase) -> None:
    template = mminstruct.create("nano")[1].template
    encoded = template.encode([Message(role="user", content=[text("is")])], tokenizer, True)
    assert tokenizer.convert_ids_to_tokens(encoded.input_ids)[-1] == "<|im_start|>assistant\n"
    assert encoded.input_ids.count(encoded.input_ids[-1]) == 1
