"""Foreign checkpoints for the tests of import and export: tiny, random, made with transformers, saved to disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AddedToken,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaProcessor,
    MistralConfig,
)
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from mminstruct.models.interop.keys import HF_LLAVA, HF_LLAVA_NEXT
from mminstruct.models.processor import Processor
from mminstruct.models.vlm import VisionLanguageModel
from tests.conftest import conversation, make_tokenizer, picture

SIZE, PATCH = 28, 14
# Height and width of what LLaVA-NeXT brings pictures to, in its order: 1 x 2 tiles, 2 x 1, 2 x 2, 3 x 1, 1 x 3.
PINPOINTS = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]
WEIGHTS = "model.safetensors"


def vision_config(**changes: Any) -> CLIPVisionConfig:
    settings = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": SIZE,
        "patch_size": PATCH,
        "projection_dim": 16,
        "initializer_range": 0.2,
    }
    return CLIPVisionConfig(**{**settings, **changes})


def text_config(**changes: Any) -> LlamaConfig:
    settings = {
        "vocab_size": 576,  # more rows than tokens, as on the hub
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.2,
    }
    return LlamaConfig(**{**settings, **changes})


def mistral_config() -> MistralConfig:
    settings = text_config().to_dict()
    wanted = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return MistralConfig(**{key: settings[key] for key in wanted}, num_key_value_heads=2, initializer_range=0.2)


def image_processor() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})


def hf_model(vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **changes: Any):
    """A random `LlavaForConditionalGeneration` in evaluation mode. Every parameter differs from its neighbours."""
    return stirred(LlavaForConditionalGeneration, LlavaConfig(**_hf_settings(vision, text), **changes))


def hf_next_model(vision: dict[str, Any] | None = None, text: Any = None, **changes: Any):
    """A random `LlavaNextForConditionalGeneration`, as `hf_model`; `text` may be a whole config."""
    settings = _hf_settings(vision, text if isinstance(text, dict) else None) | {"image_grid_pinpoints": PINPOINTS}
    if text is not None and not isinstance(text, dict):
        settings["text_config"] = text
    return stirred(LlavaNextForConditionalGeneration, LlavaNextConfig(**{**settings, **changes}))


def _hf_settings(vision: dict[str, Any] | None, text: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "vision_config": vision_config(**(vision or {})),
        "text_config": text_config(**(text or {})),
        "image_token_index": make_tokenizer(bos=True).get_added_vocab()["<image>"],
        "image_seq_length": (SIZE // PATCH) ** 2,
    }


def stirred(kind: Any, config: Any) -> Any:
    """A model of a config in evaluation mode, in which biases and norms differ: else a swapped pair would not show."""
    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def padding_tokenizer() -> Any:
    tokenizer = make_tokenizer(bos=True)
    tokenizer.add_tokens([AddedToken("<pad>", special=True, normalized=False)], special_tokens=True)
    tokenizer.pad_token = "<pad>"
    return tokenizer


def next_image_processor() -> LlavaNextImageProcessorPil:
    square = {"height": SIZE, "width": SIZE}
    return LlavaNextImageProcessorPil(size={"shortest_edge": SIZE}, crop_size=square, image_grid_pinpoints=PINPOINTS)


def hf_processor(model: Any) -> Any:
    """The processor of a LLaVA or LLaVA-NeXT of transformers, whose pictures Pillow resizes."""
    tiles = isinstance(model, LlavaNextForConditionalGeneration)
    return (LlavaNextProcessor if tiles else LlavaProcessor)(
        next_image_processor() if tiles else image_processor(),
        padding_tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy=model.config.vision_feature_select_strategy,
        num_additional_image_tokens=1,
    )


def save_hf(model: Any, folder: Path, layout: int = 0) -> Path:
    """Save a model of transformers and its processor, with the names of one of the four layouts."""
    model.save_pretrained(folder)
    hf_processor(model).save_pretrained(folder)
    assert "vision_tower.embeddings.class_embedding" in load_file(folder / WEIGHTS)  # transformers 5 writes the fourth
    layouts = HF_LLAVA_NEXT if isinstance(model, LlavaNextForConditionalGeneration) else HF_LLAVA
    fourth, wanted = layouts[3].beginnings, layouts[layout].beginnings
    rename(folder, lambda name: next(wanted[o] + name.removeprefix(t) for o, t in fourth.items() if name.startswith(t)))
    return folder


# In-memory names of transformers 5 to the original LLaVA's, written by hand and apart from the library's tables.
_TO_LLAVA = (
    ("model.vision_tower.", "model.vision_tower.vision_tower.vision_model."),
    ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
    ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
    ("model.multi_modal_projector.", "model.mm_projector."),
    ("model.image_newline", "model.image_newline"),
    ("model.language_model.", "model."),
    ("lm_head.", "lm_head."),
)


def save_llava(model: Any, folder: Path, tower_saved: bool = True, rows: int | None = None, **settings: Any) -> Path:
    """Save a model of transformers as the original project does; its tokenizer has no image token.

    Args:
        tower_saved: put the tower's weights into the model's file.
        rows: of the vocabulary; default: all that the model has.
        settings: keys of config.json; `...` takes one out.
    """
    folder.mkdir()
    tensors = {}
    for name, tensor in model.state_dict().items():
        begin, theirs = next(pair for pair in _TO_LLAVA if name.startswith(pair[0]))
        tensors[theirs + name.removeprefix(begin)] = tensor
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors[name][:rows].clone()
    if not tower_saved:
        tensors = {name: tensor for name, tensor in tensors.items() if ".vision_tower." not in name}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    make_tokenizer(bos=True, image=False).save_pretrained(folder)
    config = {
        **model.config.text_config.to_dict(),
        "vocab_size": len(tensors["lm_head.weight"]),
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava_llama",
        "mm_vision_tower": "somebody/clip-tower",
        "mm_hidden_size": model.config.vision_config.hidden_size,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "image_aspect_ratio": "pad",
        "use_mm_proj": True,
        "mm_projector_lr": None,
    }
    (folder / "config.json").write_text(json.dumps(config))
    change_json(folder / "config.json", **settings)
    return folder


def save_tower(model: Any, folder: Path, kind: str = "hub") -> Path:
    """The tower of a model of transformers in a folder of its own: as transformers 5 saves it, or as on the `hub`.

    `clip` is a whole CLIP model with its text half.
    """
    tower = model.model.vision_tower
    image_processor().save_pretrained(folder)
    if kind == "clip":
        text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        clip = CLIPModel(CLIPConfig(vision_config=tower.config.to_dict(), text_config=text, projection_dim=16))
        clip.vision_model.load_state_dict(tower.state_dict())
        clip.save_pretrained(folder)
    else:
        tower.save_pretrained(folder)
    if kind == "hub":
        rename(folder, lambda name: f"vision_model.{name}")
    return folder


def rename(folder: Path, name: Callable[[str], str]) -> None:
    change(folder, lambda tensors: {name(old): tensor for old, tensor in tensors.items()})


def change(folder: Path, edit: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Rewrite the tensors of a folder."""
    save_file(edit(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})


def change_json(file: Path, **values: Any) -> None:
    """Set keys of a JSON file; `...` takes one out."""
    content = {**json.loads(file.read_text()), **values}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


def batches(processor: Processor) -> list[dict[str, torch.Tensor]]:
    """One prompt with one picture, one with two, and four prompts of different lengths, padded on the left."""
    questions = [("What color is it?", 1), ("And the shape of both, please?", 2), ("Hello", 0), ("A circle?", 1)]
    prompts = [
        processor.prompt(conversation(text, images=n), [picture(10 * i + j) for j in range(n)])
        for i, (text, n) in enumerate(questions)
    ]
    return [processor.collate(prompts[:1]), processor.collate(prompts[1:2]), processor.collate(prompts)]


@torch.no_grad()
def assert_same(ours: VisionLanguageModel, processor: Processor, theirs: Any, rows: int | None = None) -> None:
    """Equal logits at every real token and equal greedy answers of 16 tokens, for every one of `batches`.

    `rows`: compare this many rows of the vocabulary only, where one of the two has more.
    """
    most = max(ours.config.text_config.vocab_size, theirs.config.text_config.vocab_size)
    never = {"suppress_tokens": [processor.config.image_token_id, *range(rows or most, most)]}
    for batch in batches(processor):
        real = batch["attention_mask"].bool()
        expected = theirs(**batch).logits[real][:, :rows]
        assert expected.std() > 0.1  # a dead model would agree with anything
        torch.testing.assert_close(ours(**batch).logits[real][:, :rows], expected, rtol=0, atol=1e-4)
        options = {"max_new_tokens": 16, "min_new_tokens": 16, "do_sample": False, "pad_token_id": 0, "eos_token_id": 2}
        generated = theirs.generate(**batch, **options, **never)[:, batch["input_ids"].shape[1] :]
        answer = ours.generate(**batch, **options, **never)[:, batch["input_ids"].shape[1] :]
        assert answer.tolist() == generated.tolist() and answer.shape[1] == 16


# Prompts and the pictures (width, height) in each: wide, high, square, extreme.
TILED_PROMPTS = [
    ("USER: <image>\nWhat color is it? ASSISTANT:", [(57, 33)]),
    ("USER: <image> and <image>\nAnd the shape of both, please? ASSISTANT:", [(30, 100), (200, 7)]),
    ("USER: Hello ASSISTANT:", []),
    ("USER: A circle? <image> ASSISTANT:", [(60, 60)]),
]


@torch.no_grad()
def assert_same_tiles(ours, processor, theirs, foreign):
    """Equal logits and equal greedy answers on the ids that `foreign`, their processor, makes.

    Pictures are prepared by each processor for itself. One prompt with one picture, one with two, and four prompts,
    padded on the left, with four pictures of different shapes.
    """
    never = {"suppress_tokens": [processor.config.image_token_id]}
    for prompts in (TILED_PROMPTS[:1], TILED_PROMPTS[1:2], TILED_PROMPTS):
        pictures = [picture(seed, size) for seed, size in enumerate(s for _, sizes in prompts for s in sizes)]
        text = [text for text, _ in prompts]
        batch = foreign(images=pictures, text=text, return_tensors="pt", padding=True, padding_side="left")
        prepared = [processor.prepare(one) for one in pictures]
        for one, pixels in zip(prepared, batch["pixel_values"], strict=True):
            torch.testing.assert_close(one.pixels, pixels[: len(one.pixels)], rtol=0, atol=1e-5)
        own = {
            "input_ids": batch["input_ids"],
            "attention_mask": batch["attention_mask"],
            "pixel_values": torch.cat([one.pixels for one in prepared]),
            "media": torch.tensor([one.medium for one in prepared]),
        }
        real = batch["attention_mask"].bool()
        expected = theirs(**batch).logits[real]
        assert expected.std() > 0.1  # a dead model would agree with anything
        torch.testing.assert_close(ours(**own).logits[real], expected, rtol=0, atol=1e-4)
        options = {"max_new_tokens": 16, "min_new_tokens": 16, "do_sample": False, "pad_token_id": 0, "eos_token_id": 2}
        length = batch["input_ids"].shape[1]
        generated = theirs.generate(**batch, **options, **never)[:, length:]
        answer = ours.generate(**own, **options, **never)[:, length:]
        assert answer.tolist() == generated.tolist() and answer.shape[1] == 16
