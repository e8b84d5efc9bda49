"""Sampler: draws as transformers' own warpers and a literal statement of OpenAI's penalties say."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from mminstruct.serving.sampling import Sampler
from mminstruct.serving.settings import GenerationSettings

CPU = torch.device("cpu")


def drawn(settings: GenerationSettings, logits: torch.Tensor, count: int, never: tuple[int, ...] = ()) -> Counter[int]:
    """What a fresh sampler draws first, with many seeds."""
    found: Counter[int] = Counter()
    for seed in range(count):
        one = settings.model_copy(update={"seed": seed})
        found[Sampler(one, [1, 2, 2], never, CPU).draw(logits)] += 1
    return found


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 0.7},
        {"temperature": 1.5, "top_k": 5},
        {"temperature": 1.0, "top_p": 0.6},
        {"temperature": 1.2, "top_k": 8, "top_p": 0.8},
        {"temperature": 1.0, "min_p": 0.2},
        {"temperature": 0.9, "repetition_penalty": 1.8, "top_p": 0.9, "min_p": 0.05, "top_k": 10},
    ],
)
def test_tokens_are_drawn_as_often_as_transformers_warpers_say(values: dict[str, float]) -> None:
    settings = GenerationSettings.model_validate(values)
    logits = torch.randn(12, generator=torch.Generator().manual_seed(1)) * 2
    warpers = LogitsProcessorList()
    if settings.repetition_penalty != 1:
        warpers.append(RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
    warpers.append(TemperatureLogitsWarper(settings.temperature))
    if settings.top_k:
        warpers.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1:
        warpers.append(TopPLogitsWarper(settings.top_p))
    if settings.min_p:
        warpers.append(MinPLogitsWarper(settings.min_p))
    shares = warpers(torch.tensor([[1, 2, 2]]), logits.unsqueeze(0).clone())[0].softmax(-1)
    count = 3000
    found = drawn(settings, logits, count)
    assert set(found) <= {token for token, share in enumerate(shares.tolist()) if share > 0}
    for token, share in enumerate(shares.tolist()):
        # four standard deviations
        assert abs(found[token] - share * count) <= 4 * (count * share * (1 - share)) ** 0.5 + 1, (token, share)


def test_penalties_and_bias_are_openais() -> None:
    settings = GenerationSettings(presence_penalty=0.5, frequency_penalty=0.25, logit_bias={3: 1.5, 99: 5.0})
    sampler = Sampler(settings, [0, 0, 0], [], CPU)
    logits = torch.tensor([2.0, 1.9, 1.0, 0.0])
    counts = [0, 0, 0, 0]
    for _ in range(30):
        scores = [
            logits[token].item() + (1.5 if token == 3 else 0) - 0.25 * counts[token] - 0.5 * (counts[token] > 0)
            for token in range(4)
        ]
        expected = max(range(4), key=lambda token: scores[token])
        assert sampler.draw(logits) == expected
        counts[expected] += 1
    assert logits.tolist() == pytest.approx([2.0, 1.9, 1.0, 0.0])
    assert min(counts) > 0


def test_what_is_never_to_be_generated_is_not() -> None:
    logits = torch.tensor([9.0, 1.0, 0.5])
    assert Sampler(GenerationSettings(), [], [0], CPU).draw(logits) == 1
    assert 0 not in drawn(GenerationSettings(temperature=2.0), logits, 200, never=(0,))
