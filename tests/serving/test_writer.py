"""StopTexts: what is given out is the text before the first stop text, however it is cut into pieces."""

from __future__ import annotations

import math
import random

import pytest
import torch
from PIL import Image

from mminstruct.conversation import Conversation
from mminstruct.serving.generator import Generator
from mminstruct.serving.settings import GenerationSettings
from mminstruct.serving.writer import StopTexts, spelled


def test_any_cutting_gives_the_text_before_the_first_stop_text() -> None:
    draw = random.Random(0)
    found = 0
    for _ in range(3000):
        whole = "".join(draw.choice("ab\n") for _ in range(draw.randrange(20)))
        stops = ["".join(draw.choice("ab\n") for _ in range(draw.randrange(1, 5))) for _ in range(draw.randrange(4))]
        # The answer ends with the first letter that completes a stop text.
        ends = [(whole.find(stop) + len(stop), whole.find(stop)) for stop in stops if stop in whole]
        first = min((end for end, _ in ends), default=None)
        expected = whole if first is None else whole[: min(begin for end, begin in ends if end == first)]
        texts, given, rest = StopTexts(stops), "", whole
        while rest and not texts.found:
            size = 1
            given += texts.add(rest[:size])
            rest = rest[size:]
        given += "" if texts.found else texts.finish()
        assert given == expected, (whole, stops)
        found += texts.found
    assert 500 < found < 2800


def test_a_piece_that_cannot_begin_a_stop_text_is_not_held_back() -> None:
    texts = StopTexts(["###"])
    assert [texts.add(piece) for piece in ("a#", "b", "##", "c", "##", "#")] == ["a", "#b", "", "##c", "", ""]
    assert texts.found


@pytest.mark.parametrize("alternatives", [0, 3])
def test_log_probabilities_are_those_of_the_model(
    generator: Generator, conversation: Conversation, picture: Image.Image, alternatives: int
) -> None:
    settings = GenerationSettings(max_new_tokens=5, temperature=1.5, seed=1, logprobs=alternatives)
    answer = generator.stream(conversation, [picture], settings)
    text = "".join(answer)
    processor = generator.processor
    sample = processor.prompt(conversation, [picture])
    ids = [token.id for token in answer.tokens]
    assert len(ids) == 5
    sample["input_ids"] = torch.cat([sample["input_ids"], torch.tensor(ids)])
    with torch.inference_mode():
        logits = generator.model(**processor.collate([sample], "left")).logits[0]
    logprobs = logits.log_softmax(-1)[-6:-1]
    for token, expected in zip(answer.tokens, logprobs, strict=True):
        assert token.logprob == pytest.approx(float(expected[token.id]), abs=1e-4)
        assert [one.id for one in token.top] == expected.topk(alternatives).indices.tolist()
        assert all(math.isclose(one.logprob, float(expected[one.id]), abs_tol=1e-4) for one in token.top)
    assert text == processor.tokenizer.decode(ids)


def test_a_stop_text_ends_the_answer_before_it(
    generator: Generator, conversation: Conversation, picture: Image.Image
) -> None:
    whole = "".join(generator.stream(conversation, [picture], GenerationSettings(max_new_tokens=60)))
    stop = whole[20:23]
    answer = generator.stream(conversation, [picture], GenerationSettings(max_new_tokens=60, stop=(stop,)))
    assert "".join(answer) == whole[: whole.find(stop)]
    assert answer.usage.finish_reason == "stop"
    assert answer.usage.new_tokens < 60


def test_tokens_that_are_parts_of_characters_have_their_own_bytes(generator: Generator) -> None:
    """Every token of a text, joined, is the text's bytes."""
    tokenizer = generator.processor.tokenizer
    text = "déjà vu 色 🙂 plain"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert b"".join(spelled(tokenizer, token)[1] for token in ids).decode().strip() == text
    assert any("\ufffd" in tokenizer.decode([token]) for token in ids)
