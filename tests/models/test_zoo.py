"""Every row of the zoo, in miniature: it builds, counts its image tokens, learns everywhere, and survives the disk."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Blip2ForConditionalGeneration,
    InstructBlipForConditionalGeneration,
)

import mminstruct
from mminstruct import catalog
from mminstruct.chat_template import IGNORE
from mminstruct.config import validate
from mminstruct.errors import ConfigError
from mminstruct.models import checkpoint, compose, encoders
from mminstruct.models.config import ModelRow, OwnParts, TimmConfig
from mminstruct.models.connectors import Instruction
from mminstruct.models.factory import read_row, skeleton
from mminstruct.models.layout import Medium
from mminstruct.models.pages import towers
from mminstruct.models.parts import freeze
from mminstruct.models.row_facts import MadeByRecipe, PublishedWeights
from mminstruct.models.sizes import size
from mminstruct.models.vlm import PARTS
from tests.conftest import conversation, picture

ALL_ROWS = mminstruct.list_models()
ROWS = [name for name in ALL_ROWS if isinstance(read_row(name)[0], ModelRow)]
NATIVE_ROWS = [name for name in ALL_ROWS if name not in ROWS]


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

    # Together in one batch, padded on the left, two conversations get the logits that each gets alone.
    other = processor.training_sample(conversation("and what color is the other one?", "red", images=1), [picture(2)])
    model.eval()
    with torch.no_grad():
        together = model(**processor.collate([sample, other])).logits
        for alone, logits in zip((sample, other), together, strict=True):
            own = model(**processor.collate([alone])).logits[0]
            assert torch.allclose(own, logits[-len(own) :], atol=1e-4)

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


@pytest.mark.parametrize("row", NATIVE_ROWS)
def test_native_row_builds_learns_and_reloads(row, tmp_path):
    torch.manual_seed(0)
    model, processor = mminstruct.create(row, tiny=True)
    record = conversation("what is it?", "a blue circle", images=1)
    sample = processor.training_sample(record, [picture(1, (50, 40))])
    batch = processor.collate([sample, sample], padding_side="right")
    assert set(freeze(model, PARTS)) == set(processor.config.origins) == set(PARTS) - {"experts"}
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
        ("videosavi-internvl2.5-8b", 8_075_365_376),  # InternVL2.5 8B's
        ("gemma-3-4b-it", 4_300_079_472),
        # The originals' (lmms-lab/llava-onevision-qwen2-{0.5,7}b-ov) and the 64 rows by which the conversion to
        # transformers pads the embedding, for the 7B the head too (152000 and 152128 tokens for 151936 and 152064).
        ("llava-onevision-qwen2-0.5b", 893_618_208 + 64 * 896),
        ("llava-onevision-qwen2-7b", 8_030_348_832 + 2 * 64 * 3584),
    ],
)
def test_native_parameters(row, parameters):
    assert size(read_row(row)[0]).total == parameters


@pytest.mark.parametrize("row", ALL_ROWS)
def test_row_states_its_facts(row):
    """What is fetched has a source, a recipe that is named exists, and every base model has a name for the card."""
    spec, _ = read_row(row)
    assert spec.name == row and spec.summary.endswith(".")
    assert spec.licence().names and {"vision_encoder", "connector", "language_model"} == set(spec.part_names)
    if row in NATIVE_ROWS:
        assert isinstance(spec.weights, PublishedWeights) and not spec.sources
        return
    fetched = [tower for tower in towers(spec) if tower.weights]
    assert len(spec.sources.get("vision_encoder", ())) == len(fetched)
    if spec.language_model.weights:
        (source,) = spec.sources["language_model"]
        assert source.name == spec.language_model.name
    if isinstance(spec.weights, MadeByRecipe):
        assert spec.weights.recipe in catalog.names(catalog.RECIPE)
    if isinstance(spec.weights, PublishedWeights) and isinstance(spec.weights.import_options, str):
        assert "--chat-template " + spec.chat_template.name in spec.weights.import_options


@pytest.mark.parametrize("name", catalog.names(catalog.LANGUAGE_MODEL))
def test_language_models_have_their_published_size(name):
    part = compose.language_model_part(name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**part.language_model["architecture"]))
    assert sum(p.numel() for p in model.parameters()) == part.parameters


def linear(inputs: int, outputs: int, bias: bool = True) -> int:
    return inputs * outputs + bias * outputs


def attention_pool(width: int, hidden: int) -> int:
    """SigLIP's pooling head: latent, norm, attention with queries apart from keys and values, MLP."""
    attention = linear(width, width) + linear(width, 2 * width) + linear(width, width)
    return width + 2 * width + attention + linear(width, hidden) + linear(hidden, width)


@pytest.mark.parametrize(
    ("name", "millions", "left_out"),
    [
        # `image_mparams` of open_clip's docs/model_profile.csv; what an encoder of ours leaves out: projection or
        # pooling, norms that nothing is read behind, unread layers.
        ("clip-vit-l-14-224", 303.97, linear(1024, 768, bias=False) + 2 * 1024),
        ("clip-vit-l-14-336", 304.29, linear(1024, 768, bias=False) + 2 * 1024),
        # open_clip's ViT-H-14, projection and `post_layernorm` left out.
        ("clip-vit-h-14-224", 632.08, linear(1280, 1024, bias=False) + 2 * 1280),
        ("clip-vit-l-14-336-timm", 304.29, linear(1024, 768, bias=False)),
        ("siglip-b-16-224", 92.88, attention_pool(768, 3072)),
        ("siglip2-b-16-256", 92.93, attention_pool(768, 3072)),
        ("siglip-so400m-14-224", 427.68, attention_pool(1152, 4304)),
        ("siglip-so400m-14-384", 428.23, attention_pool(1152, 4304)),
        ("eva-clip-g-14-224", 1012.59, linear(1408, 1024)),
        ("eva02-clip-l-14-336", 304.43, linear(1024, 768)),
        ("convnext-b-clip-256", 88.22, linear(1024, 640, bias=False)),
        (
            "openclip-vit-h-14-224",
            632.08,
            4 * linear(1280, 1280) + linear(1280, 5120) + linear(5120, 1280) + 3 * 2 * 1280 + 1280 * 1024,
        ),
        # timm's own pages: DINOv2's positions are those of 518 px there, 37 x 37 in place of 24 x 24.
        ("dinov2-l-14-reg", 304.37, 1024 * (37**2 - 24**2)),
        ("aimv2-l-14-336", 309.53, 0),
    ],
)
def test_encoders_have_their_published_size(name, millions, left_out):
    part = compose.encoder_part(name)
    config = validate(OwnParts, {"vision_encoder": part.vision_encoder, "connector": {"kind": "linear"}}, name)
    with torch.device("meta"):
        encoder = encoders.build(config.vision_encoder)
    assert (sum(p.numel() for p in encoder.parameters()) + left_out) / 1e6 == pytest.approx(millions, abs=0.006)


@pytest.mark.parametrize(
    ("row", "part", "parameters"),
    [
        ("llava-1.5-7b", "language_model", 6_738_415_616),
        ("llava-1.5-7b", "connector", 20_979_712),
        # CLIP ViT-L/14's 303,179,776 without the norm behind its last layer.
        ("open-flamingo-4b", "vision_encoder", 303_179_776 - 2 * 1024),
        # With 2 * 50,280 * 2,560 numbers of embeddings and head, all in float32, and 32 masks of 2048 * 2048 bytes
        # these are the 5.01 GB of the published checkpoint.pt.
        ("open-flamingo-4b", "connector", 960_763_936),
        # Linear 2176 to 8704, to 4096, to 4096 (`FusedMLPProjector`, prismatic/util/nn_utils.py).
        ("prism-dinosiglip-7b", "connector", linear(2176, 8704) + linear(8704, 4096) + linear(4096, 4096)),
        # timm's 303,715,328 (DINOv2 ViT-L/14, registers) and 412,987,248 (SigLIP So400m/14) at 384 px, each without
        # its last block (12,598,272 and 15,239,504) and final norm (2,048 and 2,304), which layer -2 does not read.
        ("prism-dinosiglip-7b", "vision_encoder", 688_860_448),
        # Experts of three matrices without bias and a router, behind a two-layer MLP (`moe.py` of Parrot).
        (
            "parrot-7b",
            "connector",
            linear(1024, 4096) + linear(4096, 4096) + 6 * 3 * 4096 * 4096 + linear(4096, 6, bias=False),
        ),
    ],
)
def test_full_size_parameters(row, part, parameters):
    assert size(read_row(row)[0]).parameters[part] == parameters


@pytest.mark.parametrize(
    ("row", "theirs", "apart"),
    [
        # Theirs keeps zeros for the keys' biases of the tower, and InstructBLIP's default is BERT's 30,522 tokens and
        # Vicuna's 32,001. BLIP-2's whole size is that of the hub's safetensors, 3,744,679,936.
        (
            "instructblip-vicuna-7b",
            InstructBlipForConditionalGeneration,
            39 * 1408 + (30522 - 30523) * 768 + 2 * 4096,
        ),
        ("blip2-opt-2.7b", Blip2ForConditionalGeneration, 39 * 1408),
    ],
)
def test_blips_are_as_large_as_those_of_transformers(row, theirs, apart):
    spec, _ = read_row(row)
    language_model = AutoConfig.for_model(**spec.language_model.architecture)
    if row.startswith("instruct"):
        language_model.vocab_size += 1
    with torch.device("meta"):
        model = theirs(theirs.config_class(text_config=language_model.to_dict()))
    ours = size(spec).total
    assert sum(p.numel() for p in model.parameters()) - ours == apart


@pytest.mark.parametrize("row", ["nano-instruct-q-former", "parrot-7b", "prism-dinosiglip-7b", "siglip2-qwen3-0.6b"])
def test_sizes_are_those_of_the_whole_model(row):
    """Counted part by part they are what the joined model has."""
    spec, _ = read_row(row)
    model = skeleton(spec)
    assert size(spec).parameters == model.parameter_counts()
    assert size(spec).image_tokens == model.layout.most_tokens()


def test_prism_reads_whole_patches_of_384_pixels():
    """384 is no multiple of 14; Prismatic's towers give 27 x 27 patches of 1024 and 1152 numbers."""
    spec, _ = read_row("prism-dinosiglip-7b")
    with torch.device("meta"):
        encoder = encoders.build(spec.vision_encoder)
        features = encoder(torch.zeros(1, 3, 384, 384))
    assert features.shape == (1, 27 * 27, 1024 + 1152)
    assert encoder.num_patches(384, 384) == 27 * 27


@pytest.mark.parametrize("row", ROWS)
def test_timm_agrees_on_pixels_and_licence(row):
    """The means, stds and licence that timm records with the weights, for every tower that names some."""
    spec, _ = read_row(row)
    for place, tower in enumerate(towers(spec)):
        if isinstance(tower, TimmConfig) and tower.weights:
            recorded = timm.get_pretrained_cfg(tower.name)
            assert (tower.image.mean, tower.image.std) == (recorded.mean, recorded.std)
            assert tower.image.interpolation == recorded.interpolation
            source = spec.sources["vision_encoder"][place]
            assert [name.lower() for name in source.licences] == [recorded.license]
            assert source.name == recorded.hf_hub_id


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
    facts = (
        "weights: {reason: not yet trained}\nreported: {reason: nobody knows it}\nmeasured: {reason: not yet trained}\n"
    )
    (tmp_path / "mine.yaml").write_text(f"name: mine\nbase: nano-mlp\nsummary: Mine.\n{facts}")
    ours, _ = read_row(tmp_path / "mine.yaml")
    theirs, nano = read_row("nano-mlp")[0], read_row("nano")[0]
    assert (ours.name, ours.summary) == ("mine", "Mine.")
    assert ours.connector == theirs.connector != nano.connector
    assert ours.language_model == theirs.language_model == nano.language_model
    model, processor = mminstruct.create(tmp_path / "mine.yaml")  # the base's tokenizer is found where the base is
    assert len(processor.tokenizer) == model.config.text_config.vocab_size


@pytest.mark.parametrize("key", ["weights", "reported", "measured"])
def test_what_is_true_of_one_trained_model_is_never_inherited(key, tmp_path):
    facts = {name: "{reason: not yet trained}" for name in ("weights", "reported", "measured") if name != key}
    lines = "".join(f"{name}: {value}\n" for name, value in facts.items())
    (tmp_path / "mine.yaml").write_text(f"name: mine\nbase: nano\nsummary: Mine.\n{lines}")
    with pytest.raises(ConfigError, match=f"the key '{key}' is missing"):
        read_row(tmp_path / "mine.yaml")
    full = "".join(f"{name}: {{reason: not yet trained}}\n" for name in ("weights", "reported", "measured"))
    (tmp_path / "mine.yaml").write_text(f"name: mine\nbase: llavar-13b\nsummary: Mine.\n{full}")
    assert read_row("llavar-13b")[0].differences and not read_row(tmp_path / "mine.yaml")[0].differences


def test_a_part_stands_where_the_row_names_it_and_yields_to_what_the_row_says(tmp_path):
    """Towers one by one, the tokenizer and the miniature with the part; sources are the parts', in their order."""
    spec, _ = read_row("prism-dinosiglip-7b")
    dino, siglip = (compose.encoder_part(name) for name in ("dinov2-l-14-reg", "siglip-so400m-14-384"))
    assert [tower.name for tower in towers(spec)] == [p.vision_encoder["name"] for p in (dino, siglip)]
    assert towers(spec)[0].architecture == {"img_size": 384}  # the part's own is 336
    assert spec.sources["vision_encoder"] == (dino.source, siglip.source)
    assert spec.tiny.vision_encoder == [dino.tiny.architecture, siglip.tiny.architecture]
    llama = compose.language_model_part("llama-2-7b")
    assert spec.tokenizer.model_dump(exclude_defaults=True) == llama.tokenizer
    assert spec.tiny.language_model == llama.tiny.architecture


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("language_model: {part: llama-2-8b}", "no language model is called 'llama-2-8b'.*Did you mean 'llama-2-7b'"),
        ("vision_encoder: {part: clip}", "no vision encoder is called 'clip'"),
        ("reported: {}", "reported"),
        ("weights: {reason: no}", "weights"),
        (
            "measured: []\nsources: {vision_encoder: [{name: x, url: y, licences: [GPL], paper: z}]}",
            "no licence is called 'GPL'",
        ),
    ],
)
def test_parts_licences_and_reasons_that_are_none(change, message, tmp_path):
    facts = {"weights", "reported", "measured"} - {change.partition(":")[0]}
    lines = "".join(f"{name}: {{reason: not yet trained}}\n" for name in sorted(facts))
    (tmp_path / "mine.yaml").write_text(f"name: mine\nbase: llava-1.5-7b\nsummary: Mine.\n{change}\n{lines}")
    with pytest.raises(ConfigError, match=message):
        read_row(tmp_path / "mine.yaml")


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
