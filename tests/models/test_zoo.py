"""Every row of the zoo, in miniature: it builds, counts its image tokens, learns everywhere, and survives the disk."""

from __future__ import annotations

import functools

import pytest
import timm
import torch
from torch import nn

import mminstruct
from mminstruct.chat_template import IGNORE
from mminstruct.errors import ConfigError
from mminstruct.models import checkpoint, encoders
from mminstruct.models.config import FusedConfig, ModelRow, TimmConfig
from mminstruct.models.connectors import Instruction
from mminstruct.models.factory import count_parameters, read_row
from mminstruct.models.parts import freeze
from mminstruct.models.vlm import PARTS
from tests.conftest import conversation, picture

ALL_ROWS = mminstruct.list_models()
ROWS = [name for name in ALL_ROWS if isinstance(read_row(name)[0], ModelRow)]
NATIVE_ROWS = [name for name in ALL_ROWS if name not in ROWS]


@functools.cache
def counts_of(row: str) -> dict[str, int]:
    return count_parameters(read_row(row)[0])


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
    vectors = model.image_embeddings(sample["pixel_values"], instruction_of(sample))
    size = processor.config.image.size
    assert vectors.shape[1] == model.image_tokens(size, size) == processor.config.image_tokens
    assert int((sample["input_ids"] == processor.config.image_token_id).sum()) == vectors.shape[1]
    assert int((sample["labels"] != IGNORE).sum()) > 0

    # Two backward passes with a step between: some libraries start residual branches at zero, which holds back the
    # first gradient of what lies inside them.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
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


@pytest.mark.parametrize("row", NATIVE_ROWS)
def test_native_row_builds_learns_and_reloads(row, tmp_path):
    torch.manual_seed(0)
    model, processor = mminstruct.create(row, tiny=True)
    record = conversation("what is it?", "a blue circle", images=1)
    sample = processor.training_sample(record, [picture(1, (50, 40))])
    batch = processor.collate([sample, sample], padding_side="right")
    assert set(freeze(model, PARTS)) == set(processor.config.origins) == set(PARTS)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.step()
        optimizer.zero_grad()
        output = model.train()(**batch)
        assert torch.isfinite(output.loss)
        output.loss.backward()
    assert not [
        name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ]

    checkpoint.save(tmp_path / "saved", model, processor)
    (tmp_path / "saved").rename(tmp_path / "another name")
    again, processor_again = mminstruct.load(tmp_path / "another name")
    assert torch.equal(again(**batch).logits, model.eval()(**batch).logits)
    assert processor_again.config == processor.config
    assert torch.equal(processor_again.training_sample(record, [picture(1, (50, 40))])["labels"], sample["labels"])


@pytest.mark.parametrize(
    ("row", "parameters"),
    [
        # "total" of the safetensors metadata that the hub shows beside each repository.
        ("qwen2.5-vl-3b", 3_754_622_976),
        ("qwen2.5-vl-7b", 8_292_166_656),
        ("qwen3-vl-2b", 2_127_532_032),
        ("qwen3-vl-4b", 4_437_815_808),
        ("qwen3-vl-8b", 8_767_123_696),
        ("smolvlm-256m", 256_484_928),
        ("smolvlm-500m", 507_482_304),
        ("smolvlm-2.2b", 2_246_272_880),
        ("internvl3-1b", 938_193_024),
        ("internvl3-8b", 7_944_373_760),
        ("gemma-3-4b-it", 4_300_079_472),
        # The originals' (lmms-lab/llava-onevision-qwen2-{0.5,7}b-ov) and the 64 rows by which the conversion to
        # transformers pads the embedding, for the 7B the head too (152000 and 152128 tokens for 151936 and 152064).
        ("llava-onevision-qwen2-0.5b", 893_618_208 + 64 * 896),
        ("llava-onevision-qwen2-7b", 8_030_348_832 + 2 * 64 * 3584),
    ],
)
def test_native_parameters(row, parameters):
    assert sum(counts_of(row).values()) == parameters


@pytest.mark.parametrize("row", ALL_ROWS)
def test_row_states_its_facts(row):
    spec, _ = read_row(row)
    assert spec.name == row and set(spec.part_names) == set(PARTS)
    assert spec.origin.licence and spec.origin.url
    counts = counts_of(row)
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
        # timm's 303,715,328 (DINOv2 ViT-L/14, registers) and 412,987,248 (SigLIP So400m/14) at 384 px, each without
        # its last block (12,598,272 and 15,239,504) and final norm (2,048 and 2,304), which layer -2 does not read.
        ("prism-dinosiglip-7b", "vision_encoder", 688_860_448),
    ],
)
def test_full_size_parameters(row, part, parameters):
    assert counts_of(row)[part] == parameters


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
