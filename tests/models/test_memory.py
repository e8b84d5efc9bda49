"""Memory estimates: the ZeRO paper's own example, and PEFT's own count of LoRA parameters."""

from __future__ import annotations

import pytest
from peft import LoraConfig, get_peft_model

import mminstruct
from mminstruct.models.factory import read_row, skeleton
from mminstruct.models.memory import Stage, estimates, lora_parameters, training_bytes


@pytest.mark.parametrize(("stage", "gigabytes"), [(0, 120.0), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_the_example_of_the_zero_paper(stage: Stage, gigabytes: float):
    """Figure 1 of arXiv 1910.02054: 7.5 B parameters on 64 devices."""
    assert training_bytes(7_500_000_000, 0, stage, 64) / 1e9 == pytest.approx(gigabytes, abs=0.05)


@pytest.mark.parametrize("row", ["nano", "llava-1.5-7b", "siglip2-qwen3-0.6b"])
def test_lora_parameters_are_those_that_peft_adds(row):
    model, _ = mminstruct.create(row, tiny=True)
    expected = lora_parameters(model, rank=4)
    adapted = get_peft_model(model.language_model, LoraConfig(r=4, target_modules="all-linear"))
    assert sum(p.numel() for name, p in adapted.named_parameters() if "lora_" in name) == expected > 0


def test_frozen_parts_cost_their_weights_only():
    table = estimates(skeleton(read_row("llava-1.5-7b")[0]), rank=16, processes=8)
    total, connector = 7_063_000_000, 20_979_712
    assert table["run"]["bf16"] == pytest.approx(2 * total / 1e9, rel=0.01)
    assert table["train the connector"]["one process"] == pytest.approx((2 * total + 14 * connector) / 1e9, rel=0.01)
    assert table["train everything"]["ZeRO-3 on 8"] == pytest.approx(16 * total / 8 / 1e9, rel=0.01)
    lora = table["train the connector and LoRA of rank 16"]
    assert table["train the connector"]["ZeRO-2 on 8"] < lora["ZeRO-2 on 8"] < table["train everything"]["ZeRO-2 on 8"]
