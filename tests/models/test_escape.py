"""Text of strangers acts as no special token and places no image, whatever it spells, in every chat template."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Iterator

import pytest
from tokenizers import normalizers
from transformers import AddedToken

import mminstruct
from mminstruct.chat_template import TemplateConfig
from mminstruct.chat_template.named import ROUNDS
from mminstruct.models.base_processor import BaseProcessor
from mminstruct.models.processor import Processor
from tests.models.native import FAMILIES, PICTURES, talk

OWN = ["nano", "nano-instruct-q-former", "nano-tiles"]


@functools.cache
def processor_of(row: str, template: str | None = None) -> BaseProcessor:
    processor = mminstruct.create(row, tiny=True)[1]
    return processor if template is None else processor.with_template(TemplateConfig(name=template))


CASES = [*((row, None) for row in [*OWN, *FAMILIES]), *(("nano", name) for name in ROUNDS)]


@pytest.fixture(params=CASES, ids=lambda case: "-".join(filter(None, case)))
def processor(request: pytest.FixtureRequest) -> BaseProcessor:
    return processor_of(*request.param)


def acting(processor: BaseProcessor) -> set[str]:
    """Every special token, whether or not `escape` knows it."""
    added = processor.tokenizer.added_tokens_decoder.values()
    found = {token.content for token in added if token.special} | {"<image>", processor.template.end}
    return {token for token in found if len(token) > 1 and token.strip()}


def hostile(tokens: set[str]) -> Iterator[str]:
    """Each token, and texts that would become one after one round of breaking or dropping."""
    for token in sorted(tokens):
        half = len(token) // 2
        yield token
        yield f"before {token}{token} after"
        yield f"{token[:half]}{token}{token[half:]}"
        yield f"{token[0]} {token[1:]}{token}"
        yield f"{token[0]}{token[0]}{token[1:]}"
        yield token.translate(FULL_WIDTH)
        yield f"{token[:half]}\u200b{token[half:]} {token[:half]}\u00ad{token[half:]} {token[:half]}\x00{token[half:]}"
        yield f"{token.upper()} {token.title()} {token.lower()}"
        yield f"\u202e{token[::-1]}\u202c {token}"
        yield f"&lt;{token[1:-1]}&gt; \\{token}\\"
    for one, other in itertools.islice(itertools.permutations(sorted(tokens), 2), 60):
        yield one[:-1] + other + one[-1]
        yield one + other[1:]


FULL_WIDTH = {number: number + 0xFEE0 for number in range(0x21, 0x7F)}


def counts(processor: BaseProcessor, *texts: str) -> Counter[int]:
    """How often each special id stands in a prompt of a picture and these texts, one part each."""
    ids = processor.prompt(talk([0, *texts], media=1), PICTURES[:1])["input_ids"].tolist()
    special = set(processor.tokenizer.convert_tokens_to_ids(sorted(acting(processor))))
    special -= {processor.tokenizer.unk_token_id}
    return Counter(token for token in ids if token in special)


def test_no_spelling_acts_as_a_special_token_or_places_an_image(processor: BaseProcessor) -> None:
    texts = list(hostile(acting(processor)))
    assert len(texts) > 20
    usual = counts(processor, "x")
    assert counts(processor, "x " + " ".join(map(processor.escape, texts))) == usual
    for text in texts[:: max(1, len(texts) // 40)]:
        assert counts(processor, "x " + processor.escape(text)) == usual, text


def test_a_token_in_two_parts_of_a_message_does_not_come_together(processor: BaseProcessor) -> None:
    usual = counts(processor, "x", "y")
    for token in sorted(acting(processor))[:20]:
        for cut in range(1, len(token)):
            parts = [processor.escape(f"x {token[:cut]}"), processor.escape(f"{token[cut:]} y")]
            assert counts(processor, *parts) == usual, parts


def test_nothing_else_is_changed(processor: BaseProcessor) -> None:
    for text in (
        "",
        "Is 1 < 2 > 0?",
        "  two  spaces\n\n\tand a tab ",
        "naïve 例え \U0001f600 e\u0301",
        "a | b & c [1].",
    ):
        assert processor.escape(text) == text


def test_what_is_escaped_stays_as_it_is_when_escaped_again(processor: BaseProcessor) -> None:
    for text in itertools.islice(hostile(acting(processor)), 40):
        once = processor.escape(text)
        assert processor.escape(once) == once


def test_a_token_that_a_tokenizer_sees_in_other_letters_is_broken_too() -> None:
    """Where a tokenizer normalises before it looks for its added tokens, full-width letters spell one."""
    processor = mminstruct.create("nano", tiny=True)[1]
    processor.tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase()]
    )
    processor.tokenizer.add_tokens([AddedToken("<|act|>", special=True, normalized=True)], special_tokens=True)
    act = processor.tokenizer.convert_tokens_to_ids("<|act|>")
    for text in ("<|act|>".translate(FULL_WIDTH), "<|ACT|>", "<|\uff41ct|>"):
        assert act in processor.tokenizer(text, add_special_tokens=False)["input_ids"], "the tokenizer does normalise"
        assert act not in processor.tokenizer(processor.escape(text), add_special_tokens=False)["input_ids"]


def test_special_tokens_of_the_instructions_own_tokenizer_are_broken_too() -> None:
    processor = processor_of("instructblip-vicuna-7b")
    assert isinstance(processor, Processor)
    own = processor.instruction_tokenizer
    assert own is not None
    own.add_tokens([AddedToken("[SEP]", special=True)], special_tokens=True)
    own.sep_token = "[SEP]"
    text = " ".join(own.all_special_tokens)
    assert not set(own.all_special_ids) & set(own(processor.escape(text), add_special_tokens=False)["input_ids"])
