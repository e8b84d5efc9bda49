"""Packed rows: every conversation's logits, loss and gradients are those that it has alone, shared prefixes or not."""

from __future__ import annotations

import pytest
import torch

import mminstruct
from mminstruct.models.packing import PACKED
from mminstruct.training import objectives
from tests.conftest import conversation, picture

QUESTIONS = ["what is it?", "is there a red circle?", "color?", "how many shapes are there, and which are they?"]


def samples(processor, sizes=((40, 40),)):
    """Four questions about one picture, one about another, about both, about none, and two turns about the first."""
    pictures = {f"{seed}": picture(seed, size) for seed, size in zip((1, 2), (*sizes, *sizes), strict=False)}
    records = [(conversation(question, "yes, a circle", images=1), "1") for question in QUESTIONS]
    records += [(conversation("what is it?", "blue", images=1), "2")]
    records += [(conversation("and these?", "alike", images=2), "12")]
    records += [(conversation("hello", "hello, you"), "")]
    records += [(conversation("is it red?", "no", "why?", "it is blue", images=1), "1")]
    made = []
    for record, names in records:
        media = [one.model_copy(update={"path": name}) for one, name in zip(record.media, names, strict=True)]
        record = record.model_copy(update={"media": media})
        made.append(processor.training_sample(record, [pictures[name] for name in names]))
    return made


def gradients(model, batches) -> tuple[float, dict[str, torch.Tensor]]:
    objective = objectives.get("sft")
    model.zero_grad()
    total = 0.0
    for batch in batches:
        output = objective(model, batch)
        output.loss_sum.backward()
        total += output.loss_sum.item()
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_equal_training(model, processor, made, share: bool) -> None:
    model.train()
    alone, expected = gradients(model, [processor.collate([one], padding_side="right") for one in made])
    model.language_model.set_attn_implementation(PACKED)
    batch = processor.pack(made, share_prefix=share)
    together, found = gradients(model, [batch])
    assert together == pytest.approx(alone, rel=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


PREFIX_ROWS = [
    name
    for name in [*mminstruct.list_models("nano"), *mminstruct.list_models("nano-*")]
    if name not in ("nano-gated-cross-attention", "nano-text-guided-moe")
]


@pytest.mark.parametrize("share", [False, True], ids=["apart", "shared"])
@pytest.mark.parametrize("row", PREFIX_ROWS)
def test_packed_equals_separate(row, share):
    torch.manual_seed(0)
    model, processor = mminstruct.create(row, tiny=True)
    if model.experts is not None:
        for extension in model.experts.layers.values():
            extension.draw(0.2)  # new experts begin as copies of old ones, and which of two alike runs is chance
    assert_equal_training(model, processor, samples(processor, ((40, 40), (90, 30))), share)
