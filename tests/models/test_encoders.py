"""The encoder contract over its three sources, against the libraries' own models."""

from __future__ import annotations

import open_clip
import pytest
import timm
import torch
from transformers import AutoModel, CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlavaConfig, LlavaModel

from mminstruct.config import validate
from mminstruct.errors import ConfigError
from mminstruct.models import encoders
from mminstruct.models.config import (
    ImageConfig,
    OpenClipConfig,
    OwnParts,
    TimmConfig,
    TowerConfig,
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
REGISTERS = {**CLIP, "model_type": "dinov2_with_registers", "num_register_tokens": 3, "use_mask_token": False}
OPEN_CLIP = {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8}
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}
CONV = {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 32]}
KINDS = {"timm": TimmConfig, "open_clip": OpenClipConfig, "transformers": TransformersConfig}


def config(source: str, name: str, architecture: dict, **settings) -> TowerConfig:
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
    # Several layers, the class token alone, registers, and a size that the patches do not divide.
    config("transformers", "clip", CLIP, layer=[-2, -4]),
    config("transformers", "clip", CLIP, layer=(-3, -1), feature="cls", norm=True),
    config("transformers", "dino", DINO, feature="cls"),
    config("open_clip", "own", OPEN_CLIP, layer=(-1, -3)),
    config("open_clip", "own", OPEN_CLIP, layer=(-2, -3), feature="cls_patch"),
    config("open_clip", "own", OPEN_CLIP, feature="cls"),
    config("timm", "vit_tiny_patch16_224", VIT, layer=(-1, -3)),
    config("timm", "vit_tiny_patch16_224", {**VIT, "reg_tokens": 2}, layer=(-3, -2), feature="cls_patch"),
    config("timm", "vit_tiny_patch16_224", {**VIT, "reg_tokens": 2}, layer=-2, feature="cls"),
    config("timm", "vit_tiny_patch16_224", {**VIT, "reg_tokens": 2}, feature="cls"),
    config("timm", "vit_base_patch16_siglip_224", VIT, layer=(-2, -3)),
    config("timm", "vit_tiny_patch16_224", {**VIT, "img_size": 36}, size=36),
    config("timm", "vit_tiny_patch16_224", {**VIT, "dynamic_img_size": True, "dynamic_img_pad": True}, size=36),
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


@pytest.mark.parametrize(
    ("feature", "part"), [("patch", slice(4, None)), ("cls_patch", slice(None)), ("cls", slice(1))]
)
def test_registers_stand_between_the_class_token_and_the_patches(feature, part):
    torch.manual_seed(0)
    encoder = encoders.build(config("transformers", "dino", REGISTERS, feature=feature)).eval()
    pixels = torch.randn(1, 3, 32, 32)
    tokens = encoder.model(pixels).last_hidden_state
    assert tokens.shape[1] == 1 + 3 + 16
    assert torch.equal(encoder(pixels), tokens[:, part])
    assert encoder.num_patches(32, 32) == tokens[:, part].shape[1]


def llava(vision: dict, layer: int | list[int], strategy: str) -> LlavaModel:
    """transformers' own LLaVA, its projector taken out so that the features themselves can be seen."""
    text = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=8)
    settings = LlavaConfig(
        vision_config=vision, text_config=text, vision_feature_layer=layer, vision_feature_select_strategy=strategy
    )
    model = LlavaModel(settings).eval()
    model.multi_modal_projector = torch.nn.Identity()
    return model


@pytest.mark.parametrize(("strategy", "feature"), [("default", "patch"), ("full", "cls_patch")])
@pytest.mark.parametrize("layer", [-2, -1, [-2], [-2, -4], [-4, -1, -2], [-3, -3]], ids=str)
def test_layers_equal_transformers_llava(layer, strategy, feature):
    torch.manual_seed(0)
    reference = llava(CLIP, layer, strategy)
    encoder = encoders.build(config("transformers", "clip", CLIP, layer=layer, feature=feature)).eval()
    weights = reference.vision_tower.state_dict()
    encoder.model.load_state_dict({key: weights[key] for key in encoder.model.state_dict()})
    pixels = torch.randn(2, 3, 32, 32)
    expected = torch.stack(
        list(
            reference.get_image_features(
                pixels, vision_feature_layer=layer, vision_feature_select_strategy=strategy
            ).pooler_output
        )
    )
    assert expected.shape[-1] == encoder.hidden_size
    assert torch.equal(encoder(pixels), expected)


def outputs_of(blocks: torch.nn.ModuleList, run) -> list[torch.Tensor]:
    """What each block gives while `run` runs."""
    seen: list[torch.Tensor] = []
    hooks = [block.register_forward_hook(lambda _, __, output: seen.append(output)) for block in blocks]
    run()
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("feature", ["patch", "cls_patch", "cls"])
@pytest.mark.parametrize("layer", [(-1, -3), (-3, -2), -2], ids=str)
def test_timm_layers_are_the_blocks_outputs(layer, feature):
    torch.manual_seed(0)
    architecture = {**VIT, "reg_tokens": 2}
    encoder = encoders.build(config("timm", "vit_tiny_patch16_224", architecture, layer=layer, feature=feature)).eval()
    whole = timm.create_model("vit_tiny_patch16_224", num_classes=0, **architecture).eval()
    encoder.model.load_state_dict({key: whole.state_dict()[key] for key in encoder.model.state_dict()})
    pixels = torch.randn(2, 3, 32, 32)
    blocks = outputs_of(whole.blocks, lambda: whole(pixels))
    part = {"patch": slice(3, None), "cls_patch": slice(None), "cls": slice(1)}[feature]
    layers = [layer] if isinstance(layer, int) else layer
    assert torch.equal(encoder(pixels), torch.cat([blocks[index][:, part] for index in layers], dim=-1))


@pytest.mark.parametrize("feature", ["patch", "cls_patch", "cls"])
@pytest.mark.parametrize("layer", [(-1, -3), (-3, -2), -2], ids=str)
def test_open_clip_layers_are_the_blocks_outputs(layer, feature):
    torch.manual_seed(0)
    encoder = encoders.build(config("open_clip", "own", OPEN_CLIP, layer=layer, feature=feature)).eval()
    text = {"context_length": 2, "vocab_size": 2, "width": 8, "heads": 1, "layers": 1}
    whole = open_clip.model.CLIP(embed_dim=8, vision_cfg=OPEN_CLIP, text_cfg=text).visual.eval()
    encoder.visual.load_state_dict({key: whole.state_dict()[key] for key in encoder.visual.state_dict()})
    pixels = torch.randn(2, 3, 32, 32)
    blocks = outputs_of(whole.transformer.resblocks, lambda: whole(pixels))
    part = {"patch": slice(1, None), "cls_patch": slice(None), "cls": slice(1)}[feature]
    layers = [layer] if isinstance(layer, int) else layer
    assert torch.equal(encoder(pixels), torch.cat([blocks[index][:, part] for index in layers], dim=-1))


@pytest.mark.parametrize(
    ("case", "layers"),
    [
        (config("transformers", "clip", CLIP, layer=(-2, -4)), 3),
        (config("open_clip", "own", OPEN_CLIP, layer=(-3, -2)), 2),
        (config("timm", "vit_tiny_patch16_224", VIT, layer=(-3, -2)), 2),
    ],
)
def test_layers_behind_the_deepest_that_is_read_are_not_built(case, layers):
    names = [name.split(".") for name, _ in encoders.build(case).named_parameters()]
    numbers = {part for name in names for part in name if part.isdigit()}
    assert len(numbers) == layers


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
    ("key", "value"), [("hidden_act", "gelu"), ("layer_norm_eps", 1e-3), ("num_attention_heads", 1)]
)
def test_weights_and_what_the_row_says_of_them_must_agree(tmp_path, key, value):
    """None of these shows in a tensor: unlike weights would load and compute something else."""
    settings = {name: setting for name, setting in CLIP.items() if name != "model_type"}
    CLIPVisionModel(CLIPVisionConfig(**settings | {key: value})).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=f"architecture says {key}: .*, but the config of its weights {value!r}"):
        encoders.build(config("transformers", str(tmp_path), CLIP, layer=-2, weights=True), pretrained=True)


@pytest.mark.parametrize(
    ("name", "tag", "match"),
    [
        ("ViT-B-32", "openai", "'openai' were trained with QuickGELU, the model 'ViT-B-32' is without it"),
        ("ViT-B-32-quickgelu", "laion2b_s34b_b79k", "trained without QuickGELU, the model .* is with it"),
    ],
)
def test_open_clip_s_weights_and_model_must_agree_on_quick_gelu(name, tag, match):
    with pytest.raises(ConfigError, match=match):
        encoders.build(config("open_clip", name, {}, weights=tag), pretrained=True)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (config("timm", "convnext_ato", {}), "timm has no model 'convnext_ato'. Did you mean 'convnext_atto'"),
        (config("timm", "convnext_atto", {"dephts": [1]}), "timm cannot build 'convnext_atto'"),
        (config("transformers", "x", {"model_type": "clipp"}), "knows no model_type 'clipp'"),
        (config("transformers", "x", CLIP, layer=-9), "has 4 layers, none -9"),
        (config("transformers", "x", CLIP, layer=(-1, -5)), "has 4 layers, none -5"),
        (config("timm", "vit_tiny_patch16_224", VIT, layer=-4), "has 3 layers, none -4"),
        (config("open_clip", "own", OPEN_CLIP, layer=(-4, -1)), "has 3 layers, none -4"),
        (config("open_clip", "nothing", {}), "open_clip has no model 'nothing'"),
        (config("timm", "convnext_atto", CONV, layer=-2), "'convnext_atto' has layers of different grids"),
        (config("timm", "convnext_atto", CONV, feature="cls"), "'convnext_atto' has no class token"),
        (config("timm", "vit_base_patch16_siglip_224", VIT, feature="cls_patch"), "no class token .*'cls_patch'"),
        (config("timm", "vit_base_patch16_siglip_224", {**VIT, "reg_tokens": 2}, feature="cls"), "no class token"),
        (config("transformers", "x", SIGLIP, feature="cls"), "'x' has no class token"),
    ],
)
def test_errors(broken, message):
    with pytest.raises(ConfigError, match=message):
        encoders.build(broken)


COMPLETE = {"source": "timm", "name": "x", "image": {"size": 32}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": None}, "the key 'vision_encoder.source' is missing"),
        ({"source": "tim"}, "vision_encoder.source: 'tim' is none of 'timm', 'open_clip', 'transformers', 'fused'"),
        ({"layr": -2}, r"unknown key 'vision_encoder.layr'. Did you mean 'layer'"),
        ({"towers": []}, "unknown key 'vision_encoder.towers'"),
        ({"layer": 0}, "vision_encoder.layer: layers are counted from the end"),
        ({"layer": [-1, 3]}, "vision_encoder.layer: layers are counted from the end"),
        ({"layer": []}, "vision_encoder.layer: layers are counted from the end"),
        ({"weights": "laion2b"}, "vision_encoder.weights: .*valid boolean"),
        ({"source": "open_clip", "weights": True}, "vision_encoder.weights: open_clip has several weights"),
        ({"feature": "clas"}, "vision_encoder.feature: .*'cls'"),
    ],
)
def test_slips_in_a_config(change, message):
    data = {key: value for key, value in {**COMPLETE, **change}.items() if value is not None}
    with pytest.raises(ConfigError, match=message):
        validate(OwnParts, {"vision_encoder": data, "connector": {"kind": "linear"}}, "c")


def test_a_config_of_an_older_checkpoint_still_reads():
    """What `model_dump` wrote before there were several kinds of encoders."""
    old = {
        "source": "open_clip",
        "name": "ViT-B-32",
        "architecture": {},
        "weights": False,
        "layer": -2,
        "feature": "cls_patch",
        "norm": False,
        "image": ImageConfig(size=32).model_dump(mode="json"),
    }
    read = validate(OwnParts, {"vision_encoder": old, "connector": {"kind": "linear"}}, "c").vision_encoder
    assert isinstance(read, OpenClipConfig) and read.model_dump(mode="json") == old
