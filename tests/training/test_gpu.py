"""What only a GPU computes: flash attention over rows, Liger's kernels, frozen weights in bfloat16.

python -m pytest tests/training/test_gpu.py
"""

from __future__ import annotations

import pytest
import torch

import mminstruct
from mminstruct.models.packing import packed
from mminstruct.models.parts import freeze
from mminstruct.models.vlm import PARTS
from mminstruct.training import objectives
from mminstruct.training.kernels import liger
from mminstruct.training.run import train
from mminstruct.training.throughput import ModelFlops
from mminstruct.training.trainer import _COUNTED, VisionLanguageTrainer
from tests.models.test_packing import samples
from tests.training.conftest import make_recipe
from tests.training.test_transfer import LORA, LookedAtError, first_micro_batch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(autouse=True)
def _whole_float32():
    """Convolutions too; torch lets them round to TF32."""
    with torch.backends.cudnn.flags(allow_tf32=False):
        yield


def build(row: str = "nano"):
    torch.manual_seed(0)
    model, processor = mminstruct.create(row)
    freeze(model, PARTS[:3])
    return model.cuda().train(), processor


def step(model, batches, dtype: torch.dtype) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    total = 0.0
    for batch in batches:
        moved = {name: value.cuda() for name, value in batch.items()}
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            loss = objectives.get("sft")(model, moved).loss_sum
        loss.backward()
        total += loss.item()
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], share: float) -> None:
    """Every gradient, to a share of its own length."""
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= share * gradient.norm() + 1e-5, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share", [False, True], ids=["apart", "shared"])
def test_a_row_equals_separate_samples(share, dtype):
    model, processor = build()
    made = samples(processor)
    alone, expected = step(model, [processor.collate([one], padding_side="right") for one in made], dtype)
    with packed(model):
        together, found = step(model, [processor.pack(made, share_prefix=share)], dtype)
    tight = dtype == torch.float32
    assert together == pytest.approx(alone, rel=1e-4 if tight else 5e-3)
    assert_close(found, expected, 1e-3 if tight else 5e-2)


def test_flash_attention_is_what_a_row_without_branches_takes():
    model, processor = build()
    batch = {name: value.cuda() for name, value in processor.pack(samples(processor), share_prefix=False).items()}
    with (
        packed(model),
        torch.autocast("cuda", torch.bfloat16),
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile,
    ):
        objectives.get("sft")(model, batch)
    calls = {event.key: event.count for event in profile.key_averages()}
    assert calls["aten::_flash_attention_forward"] == model.config.text_config.num_hidden_layers


def test_operations_are_counted_alike_in_flash_attention_and_in_sdpa():
    model, processor = build()
    batch = {name: value.cuda() for name, value in processor.pack(samples(processor), share_prefix=False).items()}
    counts = []
    for half in (False, True):
        with packed(model), torch.autocast("cuda", torch.bfloat16, enabled=half), ModelFlops() as flops:
            objectives.get("sft")(model, batch)
        counts.append(flops.total)
    assert counts[0] == counts[1] > 0


def test_ligers_kernels_compute_the_same():
    model, processor = build()
    batches = [processor.pack(samples(processor), share_prefix=True)]
    with packed(model):
        loss, expected = step(model, batches, torch.float32)
        with liger(model):
            assert type(model.language_model.model.norm).__name__ != model.language_model.model.norm._get_name()
            again, found = step(model, batches, torch.float32)
        assert step(model, batches, torch.float32)[0] == loss
    assert again == pytest.approx(loss, rel=1e-4)
    assert_close(found, expected, 1e-2)


@pytest.mark.parametrize("stage", [{}, {"train": ["connector"], "adapters": [LORA]}], ids=["whole", "lora"])
def test_the_cpu_waits_for_nothing_within_a_micro_batch(stage, workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(VisionLanguageTrainer, "_agree_on_step", lambda trainer: None)  # once a step, and it says so
    looked = []

    def look(trainer, model, batch) -> None:
        for mode in ("default", "error"):  # what a first time needs is no part of a step
            torch.cuda.set_sync_debug_mode(mode)
            try:
                inputs = trainer._prepare_inputs(batch)
                trainer.compute_loss(model, inputs, num_items_in_batch=torch.ones((), device="cuda")).backward()
            finally:
                torch.cuda.set_sync_debug_mode("default")
            trainer._flops_counted = _COUNTED
            looked.append(mode)

    first_micro_batch(monkeypatch, look)
    with pytest.raises(LookedAtError):
        train(
            make_recipe(workspace, [{"pack_tokens": 256, "share_prefix": False, **stage}], precision="bf16"),
            tmp_path / "run",
        )
    assert looked == ["default", "error"]


def test_a_run_in_bfloat16_with_lora_and_liger(workspace, tmp_path):
    """Only what learns has changed, though frozen weights were rounded meanwhile."""
    stage = {
        "name": "tune",
        "train": ["connector"],
        "adapters": [{"kind": "lora", "part": "language_model", "rank": 4}],
        "learning_rate": 1e-3,
        "pack_tokens": 256,
        "steps": 6,
    }
    settings = make_recipe(workspace, [stage], precision="bf16", kernels="liger")
    result = train(settings, tmp_path / "run")
    before, _ = mminstruct.load(workspace / "model")
    after, _ = mminstruct.load(result.model)
    old, new = before.vision_encoder.state_dict(), after.vision_encoder.state_dict()
    assert all(torch.equal(old[name], new[name]) for name in old)
    assert not torch.equal(
        before.connector.state_dict()[name := "projection.weight"], after.connector.state_dict()[name]
    )
