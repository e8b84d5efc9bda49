"""The encoder contract over its three sources, against the libraries' own models."""

from __future__ import annotations

import open_clip
import pytest
import timm
import torch
from transformers import AutoModel, CLIPVisionConfig, CLIPVisionModel

from mminstruct.errors import ConfigError
from mminstruct.models import encoders
from mminstruct.models.config import (
    EncoderConfig,
    FusedConfig,
    ImageConfig,
    OpenClipConfig,
    TimmConfig,
    TransformersConfig,
)

CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
SIGLIP = {**CLIP, "model_type": "siglip_vision_model"}
DINO = {**CLIP, "model_type": "dinov2", "use_mask_token": False}
OPEN_CLIP = {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8}
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}
CONV = {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 32]}
KINDS = {"timm": TimmConfig, "open_clip": OpenClipConfig, "transformers": TransformersConfig}


def config(source: str, name: str, architecture: dict, **settings) -> EncoderConfig:
    image = settings.pop("image", None) or ImageConfig(size=settings.pop("size", 32))
    return KINDS[source](source=source, name=name, architecture=architecture, image=image, **settings)


CASES = [
    config("transformers", "clip", CLIP, layer=-2),
    config("transformers", "clip", CLIP, layer=-1, feature="cls_patch"),
    config("transformers", "clip", CLIP),
    config("transformers", "siglip", SIGLIP),
    config("transformers", "siglip", SIGLIP, layer=-2),
    config("transformers", "dino", DINO, layer=-1),
    config("transformers", "dino", DINO),
    config("open_clip", "own", OPEN_CLIP, layer=-2),
    config("open_clip", "own", OPEN_CLIP, feature="cls_patch"),
    config("timm", "vit_tiny_patch16_224", VIT),
    config("timm", "vit_tiny_patch16_224", VIT, layer=-2),
    config("timm", "vit_tiny_patch16_224", VIT, feature="cls_patch"),
    config("timm", "vit_base_patch16_siglip_224", {**VIT, "patch_size": 8}),
    config("timm", "convnext_atto", CONV, size=64, norm=True),
    config("timm", "convnext_atto", {**CONV, "output_stride": 16}, size=64),
    config("timm", "resnet10t", {"channels": [8, 8, 16, 16]}, size=64),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.source}-{c.name}-{c.layer}-{c.feature}")
def test_contract(case):
    torch.manual_seed(0)
    encoder = encoders.build(case)
    size = case.image.size
    features = encoder(torch.randn(2, 3, size, size))
    assert features.shape == (2, encoder.num_patches(size, size), encoder.hidden_size)
    assert torch.isfinite(features).all()
    features.square().sum().backward()
    unread = [name for name, p in encoder.named_parameters() if p.grad is None]
    assert unread == []


def test_clip_layer_equals_transformers():
    torch.manual_seed(0)
    reference = CLIPVisionModel(CLIPVisionConfig(**{k: v for k, v in CLIP.items() if k != "model_type"})).eval()
    encoder = encoders.build(config("transformers", "clip", CLIP, layer=-2)).eval()
    own = encoder.model.state_dict()
    encoder.model.load_state_dict({key: value for key, value in reference.state_dict().items() if key in own})
    pixels = torch.randn(2, 3, 32, 32)
    expected = reference(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
    assert torch.equal(encoder(pixels), expected)


def test_open_clip_layer_equals_open_clip():
    torch.manual_seed(0)
    encoder = encoders.build(config("open_clip", "own", OPEN_CLIP, layer=-1, feature="cls_patch")).eval()
    text = {"context_length": 2, "vocab_size": 2, "width": 8, "heads": 1, "layers": 1}
    whole = open_clip.model.CLIP(
        embed_dim=8, vision_cfg={**OPEN_CLIP, "output_tokens": True}, text_cfg=text
    ).visual.eval()
    whole.load_state_dict(encoder.visual.state_dict(), strict=False)
    whole.ln_post = torch.nn.Identity()
    pixels = torch.randn(2, 3, 32, 32)
    _, patches = whole(pixels)
    assert torch.allclose(encoder(pixels)[:, 1:], patches, atol=1e-6)


def test_timm_equals_forward_features():
    torch.manual_seed(0)
    encoder = encoders.build(config("timm", "vit_tiny_patch16_224", VIT)).eval()
    whole = timm.create_model("vit_tiny_patch16_224", num_classes=0, **VIT).eval()
    whole.load_state_dict(encoder.model.state_dict())
    pixels = torch.randn(2, 3, 32, 32)
    assert torch.equal(encoder(pixels), whole.forward_features(pixels)[:, 1:])


def test_pretrained_transformers_weights_come_from_the_named_folder(tmp_path):
    torch.manual_seed(0)
    reference = CLIPVisionModel(CLIPVisionConfig(**{k: v for k, v in CLIP.items() if k != "model_type"})).eval()
    reference.save_pretrained(tmp_path)
    encoder = encoders.build(config("transformers", str(tmp_path), CLIP, layer=-2, weights=True), pretrained=True)
    pixels = torch.randn(1, 3, 32, 32)
    expected = AutoModel.from_pretrained(tmp_path)(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
    assert torch.equal(encoder.eval()(pixels), expected)
    assert encoder.origin == f"hub {tmp_path}"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (config("timm", "convnext_ato", {}), "timm has no model 'convnext_ato'. Did you mean 'convnext_atto'"),
        (config("timm", "convnext_atto", {"dephts": [1]}), "timm cannot build 'convnext_atto'"),
        (config("transformers", "x", {"model_type": "clipp"}), "knows no model_type 'clipp'"),
        (config("transformers", "x", CLIP, layer=-9), "has 4 layers, none -9"),
        (config("open_clip", "nothing", {}), "open_clip has no model 'nothing'"),
    ],
)
def test_errors(broken, message):
    with pytest.raises(ConfigError, match=message):
        encoders.build(broken)
