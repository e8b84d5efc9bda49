"""OpenFlamingo's checkpoints, against what its own package computed (`open_flamingo/README.md` beside the files)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, CLIPVisionConfig, GPTNeoXConfig, LlamaConfig, PreTrainedTokenizerFast

import mminstruct
from mminstruct.conversation import Conversation, ImagePart, Media, Message, TextPart
from mminstruct.errors import MminstructError
from mminstruct.models.cross_attention import Sights
from mminstruct.models.interop import export_checkpoint, import_checkpoint, verify
from tests.conftest import picture
from tests.models import interop as make

FILES = Path(__file__).parent / "open_flamingo"
WORDS = ["<unk>", "<s>", "</s>", *(f"word{number}" for number in range(37))]
TEXT = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS = {
    "gpt_neox": GPTNeoXConfig(num_hidden_layers=4, **TEXT),
    "llama": LlamaConfig(num_hidden_layers=3, num_key_value_heads=1, rms_norm_eps=1e-5, **TEXT),
}
LAYERS = {"gpt_neox": "gpt_neox.layers", "llama": "model.layers"}
VISION = CLIPVisionConfig(
    hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4
)


def part(tensors, name):
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


@pytest.fixture(params=list(CONFIGS))
def kind(request):
    return request.param


@pytest.fixture
def fixture(kind):
    return load_file(FILES / f"{kind}.safetensors")


@pytest.fixture
def saved(kind, fixture, tmp_path):
    """The checkpoint, its vision tower and its language model, each as it would be downloaded."""
    folder = tmp_path / "theirs"
    for name in ("", "tower", "base"):
        (folder / name).mkdir(exist_ok=True)
    torch.save(part(fixture, "checkpoint"), folder / "checkpoint.pt")
    save_file(part(fixture, "base"), folder / "base" / make.WEIGHTS)
    CONFIGS[kind].save_pretrained(folder / "base")
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder / "base")
    save_file(part(fixture, "tower"), folder / "tower" / make.WEIGHTS)
    VISION.save_pretrained(folder / "tower")
    make.image_processor().save_pretrained(folder / "tower")
    make.change_json(
        folder / "tower" / "preprocessor_config.json",
        size={"shortest_edge": 8},
        crop_size={"height": 8, "width": 8},
    )
    return folder


def given(saved, **changes):
    folders = {"vision_tower": saved / "tower", "base": saved / "base", "chat_template": "open_flamingo"}
    return {**folders, **changes}


def load(saved, tmp_path):
    assert import_checkpoint(saved, tmp_path / "ours", **given(saved)) == "open-flamingo"
    return mminstruct.load(tmp_path / "ours", dtype=torch.float32)


@torch.no_grad()
def test_the_whole_model_computes_what_open_flamingo_computes(kind, fixture, saved, tmp_path):
    """Two pictures in a row, and text before a picture in a row that is padded on the left."""
    ours, processor = load(saved, tmp_path)
    names = ("input_ids", "attention_mask", "pixel_values")
    batch = {name: fixture[name] for name in names}
    logits = ours(**batch).logits
    real = batch["attention_mask"].bool()
    # LLaMA's head is not in the checkpoint, so the rows of added tokens are new at each load of the original.
    rows = {"gpt_neox": 43, "llama": 40}[kind]
    assert fixture["logits"][real].std() > 0.5
    torch.testing.assert_close(logits[real][:, :rows], fixture["logits"][real][:, :rows], rtol=0, atol=1e-5)
    other = ours(**batch | {"pixel_values": batch["pixel_values"].flip(0)}).logits
    assert not torch.allclose(other[real], logits[real], atol=1e-2)
    assert not verify(tmp_path / "ours").problems
    assert processor.tokenizer.convert_ids_to_tokens([40, 41, 42]) == ["<|endofchunk|>", "<image>", "<PAD>"]
    assert ours.generation_config.eos_token_id == [2, 40] and processor.tokenizer.pad_token_id == 42


@torch.no_grad()
def test_resampler_and_gated_block_compute_what_theirs_compute(fixture, saved, tmp_path):
    ours, _ = load(saved, tmp_path)
    latents = ours.connector(ours.vision_encoder(fixture["pixel_values"]))
    expected = fixture["latents"]  # [2, 2, 3, 16], the second row's second picture is none
    torch.testing.assert_close(latents, torch.cat([expected[0], expected[1, :1]]), rtol=0, atol=1e-5)
    places = fixture["input_ids"] == 41
    index = places.long().cumsum(-1) - 1
    said = ours.connector.blocks[0](fixture["block_given"], Sights(expected, index))
    torch.testing.assert_close(said, fixture["block_said"], rtol=0, atol=1e-5)
    assert not torch.allclose(said, fixture["block_given"], atol=0.1)


def test_settings_follow_from_shapes_and_names(kind, saved, tmp_path):
    ours, processor = load(saved, tmp_path)
    options = ours.connector.options
    assert (options.every, len(ours.connector.blocks)) == {"gpt_neox": (2, 2), "llama": (1, 3)}[kind]
    assert (options.heads, options.head_size, options.intermediate_size) == (8, 2, 32)
    resampler = options.resampler
    assert (resampler.latents, resampler.depth, resampler.heads, resampler.head_size) == (3, 2, 8, 2)
    assert resampler.activation == "gelu" and processor.config.image.resize == "crop"
    sample = processor.prompt(
        Conversation(
            id="a",
            messages=[Message(role="user", content=[ImagePart(index=0), TextPart(text="word5 word6")])],
            media=[Media(path="a.png")],
        ),
        [picture(1)],
    )
    assert sample["input_ids"].tolist() == [41, 8, 9]


@torch.no_grad()
def test_the_added_rows_of_a_head_that_is_not_there_are_the_mean(fixture, saved, tmp_path):
    ours, _ = load(saved, tmp_path)
    head = ours.get_output_embeddings().weight
    if "checkpoint.lang_encoder.embed_out.weight" in fixture:
        assert torch.equal(head, fixture["checkpoint.lang_encoder.embed_out.weight"].float())
    else:
        assert torch.equal(head[:40], fixture["base.lm_head.weight"].float())
        mean = fixture["base.lm_head.weight"].float().mean(0)
        torch.testing.assert_close(head[40:], mean.expand(3, -1), rtol=0, atol=1e-3)  # stored in half precision
    names = ("model.embed_tokens.weight", "gpt_neox.embed_in.weight")
    (embeddings,) = (fixture[key] for name in names if (key := f"checkpoint.lang_encoder.{name}") in fixture)
    assert torch.equal(ours.get_input_embeddings().weight, embeddings.float())


def test_the_file_itself_and_buffers_of_old_versions(kind, fixture, saved, tmp_path):
    buffers = {
        "gpt_neox": ("attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq"),
        "llama": ("self_attn.rotary_emb.inv_freq",),
    }[kind]
    tensors = part(fixture, "checkpoint")
    in_base = {f"{LAYERS[kind]}.0.{name}": torch.zeros(2) for name in buffers}
    wrapped = {f"lang_encoder.{LAYERS[kind]}.0.decoder_layer.{name}": torch.zeros(2) for name in buffers}
    torch.save(tensors | wrapped, saved / "checkpoint.pt")
    make.change(saved / "base", lambda found: found | in_base)
    import_checkpoint(saved / "checkpoint.pt", tmp_path / "ours", **given(saved))
    assert not verify(tmp_path / "ours").problems


@torch.no_grad()
def test_a_checkpoint_that_holds_the_frozen_layers_too(kind, fixture, saved, tmp_path):
    """Then of the language model's folder only the description and the tokenizer are needed."""
    ours, _ = load(saved, tmp_path)
    layers = f"{LAYERS[kind]}."
    whole = part(fixture, "checkpoint")
    for name, tensor in part(fixture, "base").items():
        number, _, rest = name.removeprefix(layers).partition(".")
        inside = f"{layers}{number}.decoder_layer.{rest}" if name.startswith(layers) else name
        whole.setdefault(f"lang_encoder.{inside}", tensor)
    if kind == "llama":
        whole["lang_encoder.lm_head.weight"] = ours.get_output_embeddings().weight.half()
    torch.save(whole, saved / "checkpoint.pt")
    (saved / "base" / make.WEIGHTS).unlink()
    import_checkpoint(saved, tmp_path / "again", **given(saved))
    again = mminstruct.load(tmp_path / "again", dtype=torch.float32)[0]
    assert all(torch.equal(one, two) for one, two in zip(ours.parameters(), again.parameters(), strict=True))


def test_a_base_saved_by_the_transformers_of_today(kind, saved, tmp_path):
    AutoModelForCausalLM.from_pretrained(saved / "base").save_pretrained(saved / "base")
    load(saved, tmp_path)


# ---- what cannot be read --------------------------------------------------------------------------------------------


def refused(saved, tmp_path, match, **changes):
    with pytest.raises(MminstructError, match=match) as caught:
        import_checkpoint(saved, tmp_path / "ours", **given(saved, **changes))
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs"]  # nothing half-written


def change_checkpoint(saved, edit):
    torch.save(edit(torch.load(saved / "checkpoint.pt", weights_only=True)), saved / "checkpoint.pt")


@pytest.mark.parametrize("kind", ["llama"])
@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "perceiver.latents"}, "'perceiver.latents' is missing"),
        (lambda t: {k: v for k, v in t.items() if ".2.gated_" not in k}, r"\[0, 1\], but at \[0, 1, 2\] of the 3"),
        (lambda t: {k: v for k, v in t.items() if ".gated_" not in k}, "it is no OpenFlamingo checkpoint"),
        (lambda t: {k: v for k, v in t.items() if "1.gated_cross_attn_layer.ff_gate" not in k}, "ff_gate' is missing"),
        (lambda t: t | {"perceiver.frame_embs": torch.zeros(1)}, "'perceiver.frame_embs' is unknown"),
        (lambda t: t | {"perceiver.norm.bias": torch.zeros(15)}, r"has shape \[15\], config.json wants \[16\]"),
        (lambda t: {k: v[:-1] if "embed_" in k else v for k, v in t.items()}, "has 42 rows, but the tokenizer .* 43"),
        (lambda t: {"model_state_dict": t, "epoch": 3}, "checkpoint.pt is not a dictionary of tensors"),
    ],
    ids=["latents", "last layer", "no layers", "a gate", "frames", "shape", "rows", "a whole training state"],
)
def test_checkpoints_that_do_not_fit(saved, tmp_path, edit, match):
    change_checkpoint(saved, edit)
    refused(saved, tmp_path, match)


@pytest.mark.parametrize("kind", ["llama"])
def test_what_is_needed_beside_it_is_said(saved, tmp_path):
    refused(saved, tmp_path, "give a local folder of each with --vision-tower and --base", base=None)
    refused(saved, tmp_path, "give a local folder of each with --vision-tower and --base", vision_tower=None)
    refused(saved, tmp_path, "--chat-template .open_flamingo for OpenFlamingo", chat_template=None)
    (saved / "checkpoint.pt").rename(saved / "other")
    refused(saved, tmp_path, "holds no checkpoint.pt", format="open-flamingo")
    (saved / "other").rename(saved / "checkpoint.pt")
    base = json.loads((saved / "base" / "config.json").read_text())
    wrong = {"mpt": r"model_type is 'mpt'; .* \(MPT's layers", "gpt_neox": "another kind of language model"}
    for other, match in wrong.items():
        (saved / "base" / "config.json").write_text(json.dumps(base | {"model_type": other}))
        refused(saved, tmp_path, match)


@pytest.mark.parametrize("kind", ["llama"])
def test_there_is_no_export(saved, tmp_path):
    load(saved, tmp_path)
    with pytest.raises(MminstructError, match="open-flamingo can be imported only"):
        export_checkpoint(tmp_path / "ours", tmp_path / "back", "open-flamingo")
