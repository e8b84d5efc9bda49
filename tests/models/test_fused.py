"""Fused towers: each as if it stood alone on its own pixels, joined in channels or one after the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

import mminstruct
from mminstruct.config import validate
from mminstruct.errors import CheckpointError, ConfigError
from mminstruct.models import checkpoint, encoders
from mminstruct.models.config import OwnParts
from mminstruct.models.factory import read_row
from mminstruct.models.image import to_pixels
from mminstruct.models.vlm import VisionLanguageModel
from tests.conftest import conversation, picture

PLAIN = {"size": 32, "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
IMAGENET = {"size": 32, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
HALF = {"size": 32}
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}
CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


def timm_tower(**changes: Any) -> dict[str, Any]:
    tower = {"source": "timm", "name": "vit_tiny_patch16_224", "architecture": VIT, "layer": -2, "image": IMAGENET}
    return {**tower, **changes}


def clip_tower(**changes: Any) -> dict[str, Any]:
    return {"source": "transformers", "name": "clip", "architecture": CLIP, "layer": -2, "image": HALF, **changes}


def fused(*towers: dict[str, Any], fusion: str = "channel", image: dict[str, Any] = PLAIN, **more: Any) -> Any:
    data = {"source": "fused", "towers": list(towers), "fusion": fusion, "image": image, **more}
    return validate(OwnParts, {"vision_encoder": data, "connector": {"kind": "linear"}}, "c").vision_encoder


def build(*towers: dict[str, Any], **settings: Any) -> encoders.FusedEncoder:
    torch.manual_seed(0)
    encoder = encoders.build(fused(*towers, **settings)).eval()
    assert isinstance(encoder, encoders.FusedEncoder)
    return encoder


NARROW = timm_tower(architecture={**VIT, "embed_dim": 16})
OPEN_CLIP = {
    "source": "open_clip",
    "name": "own",
    "architecture": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "image": HALF,
}


@pytest.mark.parametrize(
    ("towers", "fusion", "shape"),
    [
        ((timm_tower(), clip_tower()), "channel", (16, 64)),
        ((NARROW, clip_tower(layer=[-1, -2])), "channel", (16, 16 + 64)),
        ((timm_tower(), clip_tower(), OPEN_CLIP), "channel", (16, 96)),
        ((timm_tower(feature="cls_patch"), clip_tower(feature="cls_patch")), "channel", (17, 64)),
        ((timm_tower(feature="cls"), clip_tower(feature="cls")), "channel", (1, 64)),
        ((timm_tower(), clip_tower()), "interleave", (32, 32)),
        ((timm_tower(), clip_tower(), OPEN_CLIP), "interleave", (48, 32)),
        ((NARROW, clip_tower(architecture={**CLIP, "hidden_size": 16})), "interleave", (32, 16)),
    ],
)
def test_contract(towers, fusion, shape):
    encoder = build(*towers, fusion=fusion).train()
    features = encoder(torch.rand(2, 3, 32, 32))
    assert features.shape == (2, *shape)
    assert (encoder.num_patches(32, 32), encoder.hidden_size) == shape
    features.square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("image", [PLAIN, HALF, IMAGENET], ids=["plain", "half", "imagenet"])
@pytest.mark.parametrize("fusion", ["channel", "interleave"])
def test_each_tower_sees_what_it_would_see_alone(fusion, image):
    """The fused model is fed one tensor; each tower by itself is fed the picture prepared by its own config."""
    encoder = build(timm_tower(), clip_tower(), fusion=fusion, image=image)
    photo = picture(3, (50, 40))
    alone = [tower(to_pixels(photo, tower.config.image)[None]) for tower in encoder.towers]
    together = encoder(to_pixels(photo, encoder.config.image)[None])
    if fusion == "channel":
        first, second = together.split([32, 32], dim=2)
    else:
        first, second = together[:, 0::2], together[:, 1::2]
    for found, expected in zip((first, second), alone, strict=True):
        assert (found - expected).abs().max() < 1e-5
        if image is PLAIN:
            assert torch.equal(found, expected)


@pytest.mark.parametrize("image", [PLAIN, HALF, IMAGENET], ids=["plain", "half", "imagenet"])
def test_pixels_of_each_tower(image):
    encoder = build(timm_tower(), clip_tower(), image=image)
    photo = picture(3, (50, 40))
    found = encoder.pixels(to_pixels(photo, encoder.config.image)[None])
    expected = [to_pixels(photo, tower.config.image)[None] for tower in encoder.towers]
    assert [(a - b).abs().max() < 1e-6 for a, b in zip(found, expected, strict=True)] == [True, True]
    assert (expected[0] - expected[1]).abs().max() > 0.3  # else this test would let one tower's pass for the other's


def test_half_precision_does_not_round_the_means():
    encoder = build(timm_tower(), clip_tower(), image=HALF)
    exact = {name: value.clone() for name, value in encoder.named_buffers()}
    pixels = to_pixels(picture(3), encoder.config.image)[None].bfloat16()
    expected = [value.bfloat16() for value in encoder.pixels(pixels.float())]
    rounded = encoder.to(torch.bfloat16)
    assert {name: value.dtype for name, value in rounded.named_parameters()}.popitem()[1] is torch.bfloat16
    assert all(torch.equal(value, exact[name]) for name, value in rounded.named_buffers())
    for found, wanted in zip(rounded.pixels(pixels), expected, strict=True):
        assert found.dtype is torch.bfloat16 and torch.equal(found, wanted)
    assert encoder(pixels).dtype is torch.bfloat16


def test_weights_and_origins_of_each_tower(tmp_path):
    torch.manual_seed(1)
    reference = CLIPVisionModel(CLIPVisionConfig(**{k: v for k, v in CLIP.items() if k != "model_type"})).eval()
    reference.save_pretrained(tmp_path)
    config = fused(timm_tower(), clip_tower(name=str(tmp_path), weights=True))
    assert config.weights and not fused(timm_tower(), clip_tower()).weights
    encoder = encoders.build(config, pretrained=True).eval()
    assert encoder.origin == f"random + hub {tmp_path}"
    pixels = to_pixels(picture(3), config.towers[1].image)[None]
    expected = reference(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
    assert torch.equal(encoder(to_pixels(picture(3), config.image)[None])[..., 32:], expected)
    assert encoders.build(config).origin == "random + random"


def row(**encoder: Any) -> dict[str, Any]:
    """The zoo's small fused row with another encoder."""
    data = read_row("nano-fused")[0].model_dump(mode="json")
    data["vision_encoder"] = {"source": "fused", "fusion": "interleave", "image": HALF, **encoder}
    data["tiny"]["vision_encoder"] = [{} for _ in encoder["towers"]]
    return data


def test_create_reports_where_each_tower_came_from(tmp_path):
    CLIPVisionModel(CLIPVisionConfig(**{k: v for k, v in CLIP.items() if k != "model_type"})).save_pretrained(tmp_path)
    data = row(towers=[timm_tower(), clip_tower(name=str(tmp_path), weights=True)])
    _, processor = mminstruct.create(data, pretrained=True)
    assert processor.config.origins["vision_encoder"] == f"random + hub {tmp_path}"
    data = row(towers=[timm_tower(), clip_tower()])
    with pytest.raises(ConfigError, match="names no pretrained weights"):
        mminstruct.create(data, pretrained=True)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    model, processor = mminstruct.create(row(towers=[timm_tower(), clip_tower()]))
    folder = tmp_path_factory.mktemp("fused") / "m"
    checkpoint.save(folder, model, processor)
    sample = processor.training_sample(conversation("what is it?", "a dog", images=1), [picture(1)])
    batch = processor.collate([sample], padding_side="right")
    return folder, batch, model.eval()(**batch).logits


def test_loads_strictly_and_answers_alike(saved):
    folder, batch, logits = saved
    model, processor = mminstruct.load(folder)
    assert torch.equal(model(**batch).logits, logits)
    assert processor.config.image_tokens == 32
    assert not [name for name in model.state_dict() if name.endswith(("_mean", "_std"))]


def test_transformers_own_loader_has_the_means_too(saved):
    """It builds on the meta device, where buffers that are not saved would stay what memory held before."""
    folder, batch, logits = saved
    assert torch.equal(VisionLanguageModel.from_pretrained(folder).eval()(**batch).logits, logits)


def test_a_tower_too_many_is_an_error(saved, tmp_path):
    folder, _, _ = saved
    model, processor = mminstruct.create(row(towers=[timm_tower(), clip_tower(), OPEN_CLIP]))
    checkpoint.save(tmp_path / "m", model, processor)
    (tmp_path / "m" / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match=r"holds the tensor 'vision_encoder\.towers\.2\."):
        mminstruct.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("towers", "settings", "message"),
    [
        (
            (timm_tower(image={**IMAGENET, "size": 64}), clip_tower()),
            {},
            "the fused encoder has image.size 32, its tower 'vit_tiny_patch16_224' has 64",
        ),
        ((timm_tower(), clip_tower(image={**HALF, "resize": "pad"})), {}, "image.resize 'squash', its tower 'clip'"),
        ((timm_tower(), clip_tower(image={**HALF, "interpolation": "bilinear"})), {}, "image.interpolation 'bicubic'"),
        (
            (timm_tower(architecture={**VIT, "patch_size": 16}), clip_tower()),
            {},
            "equally many tokens of a picture, found 4 from 'vit_tiny_patch16_224', 16 from 'clip' at 32 x 32 pixels",
        ),
        ((timm_tower(architecture={**VIT, "patch_size": 16}), clip_tower()), {"fusion": "interleave"}, "equally many"),
        ((timm_tower(feature="cls_patch"), clip_tower()), {}, "found 17 from .*, 16 from 'clip'"),
        (
            (NARROW, clip_tower()),
            {"fusion": "interleave"},
            "features of one width, found 16 from 'vit_tiny_patch16_224', 32 from 'clip'; .* use fusion: channel",
        ),
        ((timm_tower(),), {}, "vision_encoder.towers: .*at least 2"),
        ((timm_tower(), clip_tower()), {"fusion": "sum"}, "vision_encoder.fusion: .*'interleave'"),
        ((timm_tower(), clip_tower()), {"layer": -2}, "unknown key 'vision_encoder.layer'"),
        ((timm_tower(), clip_tower(layr=-2)), {}, "unknown key 'vision_encoder.towers.1.layr'. Did you mean 'layer'"),
        ((timm_tower(), {**clip_tower(), "source": "fused"}), {}, "towers.1.source: 'fused' is none of 'timm'"),
    ],
)
def test_errors(towers, settings, message):
    with pytest.raises(ConfigError, match=message):
        encoders.build(fused(*towers, **settings))


@pytest.mark.parametrize("name", ["nano", "nano-fused"])
def test_overrides_of_the_miniature_fit_the_towers(name):
    data = read_row(name)[0].model_dump(mode="json")
    data["tiny"]["vision_encoder"] = [{}]
    wanted = "one mapping" if name == "nano" else "a list of 2 mappings"
    with pytest.raises(ConfigError, match=f"tiny.vision_encoder must be {wanted}"):
        read_row(data)
