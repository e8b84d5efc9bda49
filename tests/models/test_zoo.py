"""Every row of the zoo, in miniature: it builds, counts its image tokens, learns everywhere, and survives the disk."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

import mminstruct
from mminstruct.chat_template import IGNORE
from mminstruct.errors import ConfigError
from mminstruct.models import checkpoint, encoders
from mminstruct.models.config import FusedConfig, TimmConfig
from mminstruct.models.connectors import Instruction
from mminstruct.models.factory import count_parameters, read_row
from mminstruct.models.layout import Medium
from mminstruct.models.vlm import PARTS
from tests.conftest import conversation, picture

ROWS = mminstruct.list_models()


def instruction_of(sample: dict[str, torch.Tensor]) -> Instruction | None:
    if "instruction_ids" not in sample:
        return None
    return Instruction(sample["instruction_ids"], sample["instruction_mask"])


@pytest.mark.parametrize("row", ROWS)
def test_row_builds_learns_and_reloads(row, tmp_path):
    torch.manual_seed(0)
    model, processor = mminstruct.create(row, tiny=True)
    record = conversation("what is it?", "a blue circle", images=1)
    sample = processor.training_sample(record, [picture(1, (50, 40))])
    batch = processor.collate([sample, sample], padding_side="right")

    # One function counts the tokens, and the encoder and connector give exactly so many vectors.
    media = [Medium(*row) for row in sample["media"].tolist()] if "media" in sample else None
    vectors = model.image_embeddings(sample["pixel_values"], instruction_of(sample), media)
    tokens = processor.layout.tokens(Medium(0, 40, 50))
    assert tokens == model.layout.tokens(Medium(0, 40, 50)) == len(vectors)
    assert int((sample["input_ids"] == processor.config.image_token_id).sum()) == tokens
    assert int((sample["labels"] != IGNORE).sum()) > 0

    # Three backward passes with steps between: residual branches of some encoders, and gates, start at zero, and each
    # holds back the first gradient of what lies behind it.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.step()
        optimizer.zero_grad()
        output = model.train()(**batch)
        assert torch.isfinite(output.loss)
        output.loss.backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert without == {f"connector.{name}" for name in model.connector.idle_parameters()}

    checkpoint.save(tmp_path / "saved", model, processor)
    (tmp_path / "saved").rename(tmp_path / "another name")
    again, processor_again = mminstruct.load(tmp_path / "another name")
    assert torch.equal(again(**batch).logits, model.eval()(**batch).logits)
    assert processor_again.config == processor.config
    assert torch.equal(processor_again.training_sample(record, [picture(1, (50, 40))])["labels"], sample["labels"])


@pytest.mark.parametrize("row", ROWS)
def test_row_states_its_facts(row):
    spec, _ = read_row(row)
    assert spec.name == row
    assert spec.origin.licence and spec.origin.url
    counts = count_parameters(spec)
    assert set(counts) == set(PARTS) and all(counts.values())


@pytest.mark.parametrize(
    ("row", "part", "parameters"),
    [
        # Published totals: Llama-2 7B and 13B (with <image> not yet added), Qwen3-0.6B, SmolLM3-3B, SigLIP2 So400m.
        ("llava-1.5-7b", "language_model", 6_738_415_616),
        ("llava-1.5-13b", "language_model", 13_015_864_320),
        ("siglip2-qwen3-0.6b", "language_model", 596_049_920),
        ("siglip2-smollm3-3b", "language_model", 3_075_098_624),
        ("llava-1.5-7b", "connector", 20_979_712),
        ("prism-dinosiglip-7b", "language_model", 6_738_415_616),
        # Llama 7B and 65B, with as many rows more in embeddings and head as tokens were added.
        ("idefics-9b", "language_model", 6_738_415_616 + 2 * 2 * 4096),
        ("idefics-9b-instruct", "language_model", 6_738_415_616 + 2 * 3 * 4096),
        ("idefics-80b", "language_model", 65_285_660_672 + 2 * 2 * 8192),
        ("open-flamingo-9b-llama", "language_model", 6_738_415_616 + 2 * 3 * 4096),
        # CLIP ViT-L/14's 303,179,776 without the norm behind its last layer.
        ("open-flamingo-4b", "vision_encoder", 303_179_776 - 2 * 1024),
        # With 2 * 50,280 * 2,560 numbers of embeddings and head, all in float32, and 32 masks of 2048 * 2048 bytes
        # these are the 5.01 GB of the published checkpoint.pt.
        ("open-flamingo-4b", "connector", 960_763_936),
        # timm's 303,715,328 (DINOv2 ViT-L/14, registers) and 412,987,248 (SigLIP So400m/14) at 384 px, each without
        # its last block (12,598,272 and 15,239,504) and final norm (2,048 and 2,304), which layer -2 does not read.
        ("prism-dinosiglip-7b", "vision_encoder", 688_860_448),
    ],
)
def test_full_size_parameters(row, part, parameters):
    assert count_parameters(read_row(row)[0])[part] == parameters


def test_prism_reads_whole_patches_of_384_pixels():
    """384 is no multiple of 14; Prismatic's towers give 27 x 27 patches of 1024 and 1152 numbers."""
    spec, _ = read_row("prism-dinosiglip-7b")
    with torch.device("meta"):
        encoder = encoders.build(spec.vision_encoder)
        features = encoder(torch.zeros(1, 3, 384, 384))
    assert features.shape == (1, 27 * 27, 1024 + 1152)
    assert encoder.num_patches(384, 384) == 27 * 27


@pytest.mark.parametrize("row", ROWS)
def test_timm_agrees_on_how_pixels_are_normalised(row):
    """The means and stds that timm records with the weights, for every tower that names some."""
    encoder = read_row(row)[0].vision_encoder
    towers = encoder.towers if isinstance(encoder, FusedConfig) else (encoder,)
    for tower in towers:
        if isinstance(tower, TimmConfig) and tower.weights:
            recorded = timm.get_pretrained_cfg(tower.name)
            assert (tower.image.mean, tower.image.std) == (recorded.mean, recorded.std)
            assert tower.image.interpolation == recorded.interpolation


def test_tied_weights_stay_tied(tmp_path):
    model, processor = mminstruct.create("siglip2-qwen3-0.6b", tiny=True)
    checkpoint.save(tmp_path / "m", model, processor)
    again, _ = mminstruct.load(tmp_path / "m")
    assert again.get_output_embeddings().weight is again.get_input_embeddings().weight


def test_batch_norm_free_nano():
    """Batch statistics would make a step depend on how its batch is split; the model we train from scratch has none."""
    model, _ = mminstruct.create("nano")
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def test_a_row_takes_from_its_base_what_it_does_not_say(tmp_path):
    """From any folder, in two steps; each key that is given stands in place of the base's."""
    (tmp_path / "mine.yaml").write_text("name: mine\nbase: nano-mlp\nsummary: Mine.\n")
    ours, _ = read_row(tmp_path / "mine.yaml")
    theirs, nano = read_row("nano-mlp")[0], read_row("nano")[0]
    assert (ours.name, ours.summary) == ("mine", "Mine.")
    assert ours.connector == theirs.connector != nano.connector
    assert ours.language_model == theirs.language_model == nano.language_model
    model, processor = mminstruct.create(tmp_path / "mine.yaml")  # the base's tokenizer is found where the base is
    assert len(processor.tokenizer) == model.config.text_config.vocab_size


def test_rows_that_are_each_others_base_are_an_error(tmp_path):
    for name, base in (("one", "two"), ("two", "one")):
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}\nbase: {tmp_path / base}.yaml\n")
    with pytest.raises(ConfigError, match="is, through its base, its own base"):
        read_row(tmp_path / "one.yaml")


def test_a_row_gives_its_tokenizer_what_the_template_needs():
    row = read_row("nano")[0].model_dump(mode="json") | {"chat_template": {"name": "open_flamingo"}}
    with pytest.raises(ConfigError, match="which its tokenizer splits into"):
        mminstruct.create(row)
    row["tokenizer"] |= {"added_tokens": ["<|endofchunk|>", "<PAD>"], "pad_token": "<PAD>"}
    model, processor = mminstruct.create(row)
    end, pad = processor.tokenizer.convert_tokens_to_ids(["<|endofchunk|>", "<PAD>"])
    assert pad == end + 1 == processor.tokenizer.pad_token_id == len(processor.tokenizer) - 1
    assert end in model.generation_config.eos_token_id
