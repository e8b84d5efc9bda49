"""What is logged beside the loss: counted operations against torch's own counter, shares against their definition."""

from __future__ import annotations

import json

import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import mminstruct
from mminstruct import formats
from mminstruct.data.dataset import ConversationDataset
from mminstruct.models.parts import freeze
from mminstruct.models.vlm import PARTS
from mminstruct.training import objectives
from mminstruct.training.run import train
from mminstruct.training.throughput import ModelFlops
from tests.training.conftest import make_recipe


@pytest.mark.parametrize("parts", [["connector"], ["language_model"], list(PARTS)])
def test_model_flops_of_a_forward_pass_are_what_forward_and_backward_compute(workspace, parts):
    """A frozen encoder in front of what learns goes forward only, a frozen language model behind it has no gradients of
    its weights."""
    model, processor = mminstruct.load(workspace / "model")
    data = list(formats.read(workspace / "data/data.json"))
    dataset = ConversationDataset(data, workspace / "data", processor, max_length=512)
    batch = processor.collate([dataset[0], dataset[5]], padding_side="right")
    freeze(model, parts)
    model.train()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as reference:  # it does not know the CPU's kernel
        objectives.get("sft")(model, batch).loss_sum.backward()
    with ModelFlops() as counted:
        objectives.get("sft")(model, batch)
    assert counted.total == reference.get_total_flops() > 1e6


def test_speed_memory_and_filling_are_logged(workspace, tmp_path):
    stages = [{"steps": 2, "batch_size": 4}, {"steps": 2, "pack_tokens": 256, "accumulate": 2}]
    train(make_recipe(workspace, stages), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    for line in lines:
        assert line["tokens_per_second"] > line["supervised_tokens_per_second"] > 0
        assert 0 < line["mfu"] < 1 and 0.1 < line["memory_gb"] < 100
        seconds = line["supervised_tokens"] / line["supervised_tokens_per_second"]
        if line["stage"] == "s0":
            assert "packing_efficiency" not in line
        else:
            filled = line["tokens_per_second"] * seconds
            assert line["packing_efficiency"] == pytest.approx(filled / (2 * 256)) and filled <= 2 * 256
