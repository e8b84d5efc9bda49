"""Any encoder source with any connector: each pair builds, counts its tokens, is alone as in a batch, and learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import mminstruct
from mminstruct.models import connectors
from mminstruct.models.config import ModelRow
from mminstruct.models.factory import read_row
from tests.conftest import conversation, picture

IMAGE = {"size": 32, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
TIMM = {"source": "timm", "name": "vit_tiny_patch16_224", "architecture": VIT, "image": IMAGE}
TRANSFORMERS = {"source": "transformers", "name": "clip", "architecture": CLIP, "image": IMAGE}
OPEN_CLIP = {
    "source": "open_clip",
    "name": "own",
    "architecture": {"layers": 2, "width": 16, "head_width": 8, "patch_size": 8, "image_size": 32},
    "image": IMAGE,
}
# Sixteen patches each.
ENCODERS: dict[str, dict[str, Any]] = {
    "timm": TIMM,
    "open_clip": OPEN_CLIP,
    "transformers": TRANSFORMERS,
    "fused": {"source": "fused", "fusion": "channel", "image": IMAGE, "towers": [TIMM, OPEN_CLIP, TRANSFORMERS]},
}
Q_FORMER = {"queries": 3, "hidden_size": 16, "layers": 2, "heads": 2, "intermediate_size": 32, "dropout": 0.0}
RESAMPLER = {"latents": 3, "depth": 1, "heads": 2, "head_size": 8}
CONNECTORS: list[tuple[str, dict[str, Any], int]] = [
    ("linear", {}, 16),
    ("mlp", {}, 16),
    ("mlp", {"expand": 2}, 16),
    ("pixel_shuffle", {"factor": 2}, 4),
    ("average_pool", {"side": 2}, 4),
    ("perceiver", {"latents": 5, "depth": 1, "heads": 2, "head_size": 8}, 5),
    ("q_former", Q_FORMER, 3),
    ("q_former", {**Q_FORMER, "instruction_vocabulary": 520}, 3),
    ("text_guided_moe", {"experts": 2, "intermediate_size": 16}, 16),
    ("gated_cross_attention", {"resampler": RESAMPLER, "every": 1, "heads": 2, "head_size": 8}, 3),
    ("gated_cross_attention", {"resampler": None, "block": "idefics", "every": 2, "heads": 2}, 16),
]


def test_all_kinds_and_sources_are_here():
    assert {kind for kind, _, _ in CONNECTORS} == set(connectors.CONNECTORS)
    rows = [read_row(row)[0] for row in mminstruct.list_models()]
    used = {row.vision_encoder.source for row in rows if isinstance(row, ModelRow)}
    assert used == set(ENCODERS)


@pytest.mark.parametrize(("kind", "options", "tokens"), CONNECTORS, ids=str)
@pytest.mark.parametrize("source", ENCODERS)
def test_pair(source, kind, options, tokens):
    torch.manual_seed(0)
    row = read_row("nano")[0].model_dump(mode="json")
    tiny_model = {**row["language_model"]["architecture"], **row["tiny"]["language_model"]}
    row |= {
        "vision_encoder": ENCODERS[source],
        "connector": {"kind": kind, "options": options},
        "language_model": {"architecture": tiny_model},
        "tiny": {**row["tiny"], "vision_encoder": [{}, {}, {}] if source == "fused" else {}},
    }
    model, processor = mminstruct.create(row)
    assert processor.config.image_tokens == tokens
    samples = [
        processor.training_sample(conversation("what is it?", "a blue circle", images=1), [picture(1, (50, 40))]),
        processor.training_sample(conversation("and what color is the other one?", "red", images=1), [picture(2)]),
    ]
    model.eval()
    with torch.no_grad():
        for name, parameter in model.connector.named_parameters():
            if "gate" in name or "alpha" in name:  # they start at zero and would hide the pictures
                parameter.fill_(0.5)
        together = model(**processor.collate(samples)).logits
        for sample, logits in zip(samples, together, strict=True):
            alone = model(**processor.collate([sample])).logits[0]
            assert torch.allclose(alone, logits[-len(alone) :], atol=1e-4)
    model.train()(**processor.collate(samples, padding_side="right")).loss.backward()
    assert any(p.grad is not None and p.grad.any() for p in model.vision_encoder.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.connector.parameters())
