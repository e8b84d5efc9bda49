"""Detokenizer: joined pieces are the whole text, no piece is ever taken back, no half character is shown."""

from __future__ import annotations

import random

import pytest
from transformers import PreTrainedTokenizerBase

import mminstruct
from mminstruct.serving.detokenizer import REPLACEMENT, Detokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return mminstruct.create("nano")[1].tokenizer


def pieces_of(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    text = Detokenizer(tokenizer)
    return [*(text.add(token) for token in ids), text.finish()]


@pytest.mark.parametrize(
    "text",
    [
        "What color?",
        "naïve café — “quoted”",
        "日本語のテキスト",
        "🦊 and 👩‍👩‍👧 and 🇫🇷",
        "  two  spaces\n\nlines ",
        "é" * 40,
    ],
)
def test_text_comes_out_in_whole_characters(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = pieces_of(tokenizer, ids)
    assert "".join(pieces) == text
    assert all(REPLACEMENT not in piece for piece in pieces)
    assert pieces[-1] == ""


def test_any_ids_come_out_as_their_text(tokenizer: PreTrainedTokenizerBase) -> None:
    """Random tokens are full of broken bytes and special tokens; still nothing is lost or doubled."""
    draw = random.Random(0)
    for _ in range(50):
        ids = [draw.randrange(len(tokenizer)) for _ in range(60)]
        assert "".join(pieces_of(tokenizer, ids)) == tokenizer.decode(ids, skip_special_tokens=True)


def test_broken_bytes_are_not_held_back_for_ever(tokenizer: PreTrainedTokenizerBase) -> None:
    *_, first, _ = tokenizer("é", add_special_tokens=False)["input_ids"]  # a lead byte without what must follow
    text = Detokenizer(tokenizer)
    shown = [text.add(first) for _ in range(10)]
    assert "".join(shown) == REPLACEMENT * 7


def test_spaces_before_words_are_kept_by_sentencepiece_style_tokenizers() -> None:
    """Their decoder drops the space of the first token, whichever token that is: a window must not lose others."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "</s>", "▁Hello", "▁world", ",", "▁again"]
    vocabulary = {word: number for number, word in enumerate(words + [f"<0x{byte:02X}>" for byte in range(256)])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")
    fox = [vocabulary[f"<0x{byte:02X}>"] for byte in "🦊".encode()]
    ids = [2, 4, 3, *fox, 1, 5, 1]
    pieces = pieces_of(tokenizer, ids)
    assert "".join(pieces) == "Hello, world🦊 again" == tokenizer.decode(ids, skip_special_tokens=True)
    assert all(REPLACEMENT not in piece for piece in pieces)
