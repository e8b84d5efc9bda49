"""transformers' Idefics: imported it computes the same, exported transformers opens it, there and back is the same."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AddedToken,
    AutoProcessor,
    IdeficsConfig,
    IdeficsForVisionText2Text,
    IdeficsImageProcessor,
    IdeficsProcessor,
)
from transformers.models.idefics.processing_idefics import (
    image_attention_mask_for_packed_input_ids_pt,
    incremental_to_binary_attention_mask,
)

import mminstruct
from mminstruct.conversation import Conversation, ImagePart, Media, Message, TextPart
from mminstruct.errors import CheckpointError, MminstructError
from mminstruct.models import checkpoint
from mminstruct.models.interop import export_checkpoint, import_checkpoint, verify
from tests.conftest import make_tokenizer, picture
from tests.models import interop as make

SIZE = 28
FAKE = "<fake_token_around_image>"
ADDED = (FAKE, "<image>", "<end_of_utterance>")
TEMPLATE = {"chat_template": "idefics"}
VISION = {
    "embed_dim": 32,
    "image_size": SIZE,
    "patch_size": 14,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.2,
}
PERCEIVER = {
    "use_resampler": True,
    "resampler_n_latents": 4,
    "resampler_depth": 2,
    "resampler_n_heads": 2,
    "resampler_head_dim": 8,
    "qk_layer_norms_perceiver": True,
}


def idefics_tokenizer():
    tokenizer = make_tokenizer(bos=True, image=False)
    tokens = [AddedToken(token, special=True, normalized=False) for token in ADDED]
    tokenizer.add_special_tokens({"additional_special_tokens": tokens})
    return tokenizer


BASE = len(make_tokenizer(bos=True, image=False))


def idefics(**changes):
    """A random Idefics in evaluation mode, its gates open; the added tokens have rows of their own."""
    torch.manual_seed(0)
    settings = {
        "vocab_size": BASE,
        "additional_vocab_size": len(ADDED),
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "cross_layer_interval": 2,
        "qk_layer_norms": True,
        "alpha_initializer": "ones",
        "initializer_range": 0.2,
        "use_resampler": True,
        "vision_config": VISION,
        "perceiver_config": PERCEIVER,
    }
    model = IdeficsForVisionText2Text(IdeficsConfig(**{**settings, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms begin equal everywhere: a swapped pair would not show
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def save(model, folder):
    model.save_pretrained(folder)
    IdeficsProcessor(IdeficsImageProcessor(image_size=SIZE), idefics_tokenizer()).save_pretrained(folder)
    return folder


@functools.cache
def reference():
    return idefics()


@pytest.fixture
def theirs():
    return reference()


@pytest.fixture
def saved(theirs, tmp_path):
    return save(theirs, tmp_path / "theirs")


def reload(folder):
    model, info = IdeficsForVisionText2Text.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return model.eval()


def as_theirs(batch, tokenizer):
    """Our batch as IdeficsProcessor would hand it over, with its own code for who sees what."""
    ids = batch["input_ids"]
    counts = (ids == tokenizer.convert_tokens_to_ids("<image>")).sum(-1).tolist()
    most = max(1, *counts)
    pixels = torch.zeros(len(ids), most, 3, SIZE, SIZE)
    rows = torch.split(batch["pixel_values"], counts) if any(counts) else [pixels[0, :0]] * len(ids)
    for row, own in zip(pixels, rows, strict=True):
        row[: len(own)] = own
    seen, _ = image_attention_mask_for_packed_input_ids_pt(ids, tokenizer)
    seen = incremental_to_binary_attention_mask(seen, "pt", num_classes=most)
    given = {"input_ids": ids, "attention_mask": batch["attention_mask"]}
    return given | {"pixel_values": pixels, "image_attention_mask": seen}


def text_first(processor, images=2):
    parts = [TextPart(text="Look: "), ImagePart(index=0), TextPart(text=" and "), ImagePart(index=1)]
    record = Conversation(
        id="a", messages=[Message(role="user", content=parts)], media=[Media(path=f"{i}.png") for i in range(images)]
    )
    return processor.prompt(record, [picture(77), picture(78)])


@torch.no_grad()
def assert_same(ours, processor, theirs, generate=False):
    """Equal logits at every real token, and greedy answers of 16 tokens: one picture, two, none, batch 1 and 4."""
    batches = [*make.batches(processor), processor.collate([text_first(processor)])]
    assert [len(batch["input_ids"]) for batch in batches] == [1, 1, 4, 1]
    for batch in batches:
        given = as_theirs(batch, processor.tokenizer)
        real = batch["attention_mask"].bool()
        expected = theirs(**given).logits[real]
        assert expected.std() > 0.1  # a dead model would agree with anything
        torch.testing.assert_close(ours(**batch).logits[real], expected, rtol=0, atol=1e-4)
        if not generate:
            continue
        options = {"max_new_tokens": 16, "min_new_tokens": 16, "do_sample": False, "pad_token_id": 0, "eos_token_id": 2}
        never = {"suppress_tokens": processor.tokenizer.convert_tokens_to_ids([FAKE, "<image>"])}
        length = batch["input_ids"].shape[1]
        generated = theirs.generate(**given, **options, **never)[:, length:]
        answer = ours.generate(**batch, **options, **never)[:, length:]
        assert answer.tolist() == generated.tolist() and answer.shape[1] == 16


def test_import_computes_the_same(theirs, saved, tmp_path):
    assert import_checkpoint(saved, tmp_path / "ours", **TEMPLATE) == "hf-idefics"
    ours, processor = mminstruct.load(tmp_path / "ours")
    assert_same(ours, processor, theirs, generate=True)
    assert not verify(tmp_path / "ours").problems
    # The pictures are seen: without them the same text says something else.
    batch = make.batches(processor)[1]
    blank = batch | {"pixel_values": torch.zeros_like(batch["pixel_values"])}
    assert not torch.allclose(ours(**batch).logits, ours(**blank).logits, atol=1e-2)
    names = processor.tokenizer.convert_ids_to_tokens(ours.generation_config.suppress_tokens)
    assert sorted(names) == [FAKE, "<image>"]


SETTINGS = [
    {"alpha_type": "vector"},
    {"use_resampler": False},
    {"cross_layer_interval": 1},
    {"cross_layer_interval": 4},
    {"qk_layer_norms": False},
    {"perceiver_config": {**PERCEIVER, "qk_layer_norms_perceiver": False, "resampler_depth": 1}},
    {"tie_word_embeddings": True},
    {"additional_vocab_size": 0, "vocab_size": BASE + len(ADDED) + 7},
    {"rms_norm_eps": 0.1},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}},
    {"hidden_act": "gelu"},
    {"vision_config": {**VISION, "hidden_act": "quick_gelu", "layer_norm_eps": 0.1}},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: ",".join(settings))
def test_settings_that_change_what_is_computed(tmp_path, settings):
    theirs = idefics(**settings)
    import_checkpoint(save(theirs, tmp_path / "theirs"), tmp_path / "ours", **TEMPLATE)
    ours = mminstruct.load(tmp_path / "ours")
    assert_same(*ours, theirs)
    export_checkpoint(tmp_path / "ours", tmp_path / "back", "hf-idefics")
    assert_same(*ours, reload(tmp_path / "back"), generate="alpha_type" in settings)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_there_and_back_is_the_same_folder(tmp_path, dtype):
    model = idefics().to(dtype)
    import_checkpoint(save(model, tmp_path / "theirs"), tmp_path / "first", **TEMPLATE, max_shard_size=50_000)
    # The name of the source stands in the checkpoint, so the folder in between has the same.
    (tmp_path / "theirs").rename(tmp_path / "gone")
    export_checkpoint(tmp_path / "first", tmp_path / "theirs", "hf-idefics")
    import_checkpoint(tmp_path / "theirs", tmp_path / "second", max_shard_size=50_000)  # the template is known
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("first", "second"))
    assert sum(name.endswith(".safetensors") for name in first) > 1
    assert first == second


def test_prompts_are_those_of_idefics_processor(saved, tmp_path):
    """The conversation of transformers' documentation: text before the first picture, two pictures, two turns."""
    import_checkpoint(saved, tmp_path / "ours", **TEMPLATE)
    _, processor = mminstruct.load(tmp_path / "ours")
    parts = [
        ("user", [TextPart(text="What is in this image?"), ImagePart(index=0)]),
        ("assistant", [TextPart(text="This is Idefix.")]),
        ("user", [ImagePart(index=1), ImagePart(index=2), TextPart(text="And who is that?")]),
    ]
    messages = [Message(role=role, content=content) for role, content in parts]
    images = [picture(seed, (40, 60)) for seed in range(3)]
    record = Conversation(id="a", messages=messages, media=[Media(path=f"{i}") for i in range(3)])
    found = processor.prompt(record, images)
    prompt = [
        "User: What is in this image?",
        images[0],
        "<end_of_utterance>",
        "\nAssistant: This is Idefix.<end_of_utterance>",
        "\nUser:",
        images[1],
        images[2],
        "And who is that?<end_of_utterance>",
        "\nAssistant:",
    ]
    foreign = AutoProcessor.from_pretrained(saved)
    wanted = foreign(text=[prompt], add_end_of_utterance_token=False, return_tensors="pt")
    batch = processor.collate([found])
    spelled = [processor.tokenizer.convert_ids_to_tokens(one["input_ids"][0]) for one in (batch, wanted)]
    # This tokenizer writes a space in front of the first word of a text only: behind a beginning that it was given as
    # text, as IdeficsProcessor gives it, none. Llama's own writes one in both cases.
    assert spelled[0][:2] == ["<s>", "▁"] and spelled[0][:1] + spelled[0][2:] == spelled[1]
    given = as_theirs(batch, processor.tokenizer)
    assert torch.equal(given["image_attention_mask"][:, 2:], wanted["image_attention_mask"][:, 1:])
    torch.testing.assert_close(given["pixel_values"], wanted["pixel_values"], rtol=0, atol=0.05)


def test_behind_an_end_of_text_idefics_sees_nothing_and_we_do(saved, theirs, tmp_path):
    """The one place where the two differ: documents packed into one row, which our prompts never are."""
    import_checkpoint(saved, tmp_path / "ours", **TEMPLATE)
    ours, processor = mminstruct.load(tmp_path / "ours")
    batch = make.batches(processor)[0]
    ids = torch.cat([batch["input_ids"], torch.tensor([[2, 9, 9]])], dim=1)
    batch |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    given = as_theirs(batch, processor.tokenizer)
    assert given["image_attention_mask"][0, -3:, 0].tolist() == [1, 0, 0]
    with torch.no_grad():
        difference = (ours(**batch).logits - theirs(**given).logits).abs().amax(-1)[0]
    assert difference[:-2].max() < 1e-4 < 1e-2 < difference[-1]


def test_exported_processor_makes_the_same_inputs(saved, tmp_path):
    import_checkpoint(saved, tmp_path / "ours", **TEMPLATE)
    export_checkpoint(tmp_path / "ours", tmp_path / "back", "hf-idefics")
    prompt = [["User:", picture(1), "What?"], ["User:", picture(2), picture(3), "And?"]]
    one, two = (
        AutoProcessor.from_pretrained(folder)(text=prompt, return_tensors="pt", padding=True)
        for folder in (saved, tmp_path / "back")
    )
    assert one.keys() == two.keys()
    for key in one:
        assert torch.equal(one[key], two[key])


def test_buffers_of_old_versions_are_not_in_the_way(saved, theirs, tmp_path):
    old = {
        "model.vision_model.embeddings.position_ids": torch.arange(5)[None],
        "model.layers.1.self_attn.rotary_emb.inv_freq": torch.ones(6),
        "model.gated_cross_attn_layers.1.cross_attn.rotary_emb.inv_freq": torch.ones(6),
    }
    make.change(saved, lambda tensors: tensors | old)
    import_checkpoint(saved, tmp_path / "ours", **TEMPLATE)
    assert_same(*mminstruct.load(tmp_path / "ours"), theirs)


def test_export_has_the_names_that_transformers_writes(saved, tmp_path):
    import_checkpoint(saved, tmp_path / "ours", **TEMPLATE)
    export_checkpoint(tmp_path / "ours", tmp_path / "back", "hf-idefics")
    wanted = {name for name in load_file(saved / make.WEIGHTS) if "additional" not in name}
    assert set(load_file(tmp_path / "back" / make.WEIGHTS)) == wanted


# ---- what cannot be read, or written ---------------------------------------------------------------------------------


def refused(folder, tmp_path, match, **options):
    with pytest.raises(MminstructError, match=match) as caught:
        import_checkpoint(folder, tmp_path / "ours", **{**TEMPLATE, **options})
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs"]  # nothing half-written


ROWS = "model.embed_tokens.additional_embedding.weight"
GATE = "model.gated_cross_attn_layers.1.alpha_dense"


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda t: {k: v for k, v in t.items() if k != ROWS}, f"{ROWS}' is missing; additional_vocab_size is 3"),
        (lambda t: {k: v for k, v in t.items() if k != GATE}, f"{GATE}' is missing"),
        (lambda t: t | {GATE: torch.zeros(1, 1, 48)}, r"has shape \[1, 1, 48\], config.json wants \[1\]"),
        (lambda t: t | {ROWS: torch.zeros(2, 48)}, "embed_tokens.weight' .* has shape"),
        (lambda t: t | {"model.extra": torch.zeros(2)}, "'model.extra' is unknown"),
    ],
    ids=["no later rows", "no gate", "gate of another kind", "too few rows", "extra"],
)
def test_tensors_that_do_not_fit(saved, tmp_path, edit, match):
    make.change(saved, edit)
    refused(saved, tmp_path, match)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"alpha_type": "matrix"}, "alpha_type is 'matrix'"),
        ({"dropout": 0.1}, "dropout is 0.1"),
        ({"cross_layer_interval": 3}, "cross_layer_interval is 3, which does not divide the 4 layers"),
        ({"additional_vocab_size": 0}, "additional_fc.weight' is unknown"),
        ({"architectures": ["IdeficsModel"]}, "'IdeficsModel'"),
    ],
    ids=str,
)
def test_configs_that_cannot_be_held(saved, tmp_path, values, match):
    make.change_json(saved / "config.json", **values)
    refused(saved, tmp_path, match)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"do_normalize": False}, "do_normalize is False"),
        ({"resample": 9}, "resample is 9"),
        ({"image_size": 99}, "image_size is 99"),
        ({"size": {"height": 99, "width": 99}}, "size is .* can be read"),
        ({"image_processor_type": "CLIPImageProcessor"}, "image_processor_type is 'CLIPImageProcessor'"),
        ({"image_mean": ...}, "'image_mean' is missing"),
    ],
    ids=str,
)
def test_image_preparation_that_cannot_be_held(saved, tmp_path, values, match):
    file = saved / "processor_config.json"
    inside = {**json.loads(file.read_text())["image_processor"], **values}
    make.change_json(file, image_processor={key: value for key, value in inside.items() if value is not ...})
    refused(saved, tmp_path, match)


def test_what_else_is_missing_is_said(saved, tmp_path):
    refused(saved, tmp_path, "--chat-template .idefics for Idefics-instruct", chat_template=None)
    refused(saved, tmp_path, "drop --vision-tower and --base", base=saved)
    make_tokenizer(bos=True, image=False).save_pretrained(saved)
    refused(saved, tmp_path, "the tokenizer has no token <image>")


def row(**changes):
    content = {
        **mminstruct.models.factory.read_row("nano-gated-cross-attention")[0].model_dump(mode="json"),
        "vision_encoder": {
            "source": "transformers",
            "name": "clip",
            "architecture": {
                "model_type": "clip_vision_model",
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": SIZE,
                "patch_size": 14,
            },
            "layer": -1,
            "feature": "cls_patch",
            "image": {"size": SIZE},
        },
        "connector": {
            "kind": "gated_cross_attention",
            "options": {"block": "idefics", "every": 1, "heads": 4, "intermediate_size": 48},
        },
        "chat_template": {"name": "chatml", "image_format": FAKE + "{}" + FAKE},
    }
    text = {"model_type": "llama", "vocab_size": 512, "hidden_size": 32, "intermediate_size": 48}
    content["language_model"]["architecture"] = text | {"num_hidden_layers": 2, "num_attention_heads": 4}
    for place, value in changes.items():
        *above, key = place.split("__")
        inside = functools.reduce(lambda found, name: found[name], above, content)
        inside[key] = value
    return content


def test_the_text_around_a_picture_stays_whatever_the_template(saved, tmp_path):
    import_checkpoint(saved, tmp_path / "ours", chat_template="plain")
    _, processor = mminstruct.load(tmp_path / "ours")
    sample = processor.prompt(make.conversation("What?", images=2), [picture(1), picture(2)])
    spelled = processor.tokenizer.convert_ids_to_tokens(sample["input_ids"])
    assert spelled == ["<s>", FAKE, "<image>", FAKE, "<image>", FAKE]


@pytest.mark.parametrize("changes", [{"connector__options__resampler": None}, {"vision_encoder__layer": -2}], ids=str)
def test_a_model_made_here_is_exported(tmp_path, changes):
    checkpoint.save(tmp_path / "ours", *mminstruct.create(row(**changes)))
    export_checkpoint(tmp_path / "ours", tmp_path / "back", "hf-idefics")
    assert_same(*mminstruct.load(tmp_path / "ours"), reload(tmp_path / "back"))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"connector": {"kind": "mlp"}}, "the connector 'gated_cross_attention', this model has 'mlp'"),
        ({"connector__options__block": "flamingo"}, "block 'idefics', this model has 'flamingo'"),
        ({"connector__options__first": 1}, "first block in front of layer 0, this model has 1"),
        ({"connector__options__every": 3}, "a rest of layers without a block 0, this model has 2"),
        ({"connector__options__heads": 2}, "the connector's heads 4, this model has 2"),
        ({"connector__options__intermediate_size": 64}, "intermediate_size 48, this model has 64"),
        ({"connector__options__hidden_act": "gelu"}, "hidden_act 'silu', this model has 'gelu'"),
        ({"connector__options__rms_norm_eps": 1e-3}, "rms_norm_eps 1e-06, this model has 0.001"),
        ({"connector__options__resampler": {"activation": "gelu"}}, "activation 'relu', this model has 'gelu'"),
        ({"vision_encoder__feature": "patch"}, "encoder.feature 'cls_patch', this model has 'patch'"),
        ({"vision_encoder__image__resize": "crop"}, "image.resize 'squash', this model has 'crop'"),
        ({"language_model__architecture__num_key_value_heads": 2}, "num_key_value_heads 4, this model has 2"),
        ({"language_model__architecture__head_dim": 16}, "head_dim 8, this model has 16"),
        ({"language_model__architecture__attention_bias": True}, "attention_bias False, this model has True"),
        ({"language_model__architecture__mlp_bias": True}, "mlp_bias False, this model has True"),
        ({"language_model__architecture__model_type": "qwen3"}, "language model 'llama', this model has 'qwen3'"),
        ({"chat_template__image_format": None}, "image_format .*, this model has '{}'"),
    ],
    ids=str,
)
def test_models_that_the_format_cannot_hold(tmp_path, changes, match):
    checkpoint.save(tmp_path / "ours", *mminstruct.create(row(**changes)))
    with pytest.raises(CheckpointError, match=match):
        export_checkpoint(tmp_path / "ours", tmp_path / "back", "hf-idefics")
    assert not (tmp_path / "back").exists()
