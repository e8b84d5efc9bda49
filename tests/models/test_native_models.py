"""Native models: they learn, a batch is its samples, every part trains alone, and folders are everybody's."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor, LlamaConfig, LlamaForCausalLM

import mminstruct
from mminstruct.chat_template import IGNORE
from mminstruct.errors import CheckpointError, ConfigError
from mminstruct.models import checkpoint
from mminstruct.models.interop import verify
from mminstruct.models.native import parts as native_parts
from mminstruct.models.native.parts import NATIVE_PARTS
from mminstruct.models.parts import freeze, parts
from mminstruct.training import objectives
from tests.models.native import FAMILIES, ONE_PICTURE, PICTURES, TEXT_ONLY, TWO_PICTURES, lively

# Both widths are 32, and a connector that joins 2 x 2 patches reads 128 numbers. Qwen: a norm and two layers, and for
# Qwen3 the same again for DeepStack, its norm on 128; Idefics3: one layer without bias; LLaVA-OneVision: two layers and
# the line end; InternVL: a norm and two layers; Gemma: a matrix and a norm.
CONNECTORS = {
    "qwen2_5_vl": 32 + (128 * 128 + 128) + (128 * 32 + 32),
    "qwen3_vl": 2 * 32 + 2 * 128 + 2 * ((128 * 128 + 128) + (128 * 32 + 32)),
    "idefics3": 128 * 32,
    "llava_onevision": 2 * (32 * 32 + 32) + 32,
    "internvl": 2 * 128 + (128 * 32 + 32) + (32 * 32 + 32),
    "gemma3": 32 * 32 + 32,
}

RECORDS = [(TWO_PICTURES, PICTURES), (ONE_PICTURE, PICTURES[:1]), (TEXT_ONLY, []), (ONE_PICTURE, PICTURES[1:])]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return lively(request.param)


@pytest.fixture
def saved(tmp_path):
    """A small native checkpoint and the model and processor in it."""
    model, processor = lively("internvl3-1b")
    checkpoint.save(tmp_path / "model", model, processor)
    return tmp_path / "model", model, processor


def samples_of(processor):
    return [processor.training_sample(record, pictures) for record, pictures in RECORDS]


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_of_a_batch_are_those_of_its_samples(family, side):
    model, processor = family
    samples = [{key: value for key, value in sample.items() if key != "labels"} for sample in samples_of(processor)]
    batch = processor.collate(samples, padding_side=side)
    together = model(**batch).logits
    for row, sample in enumerate(samples):
        alone = model(**processor.collate([sample])).logits[0]
        found = together[row][batch["attention_mask"][row].bool()]
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-4)


def test_answers_of_a_batch_are_those_of_its_samples(family):
    model, processor = family
    prompts = [
        processor.prompt(record.model_copy(update={"messages": record.messages[:-1]}), pictures)
        for record, pictures in RECORDS
    ]

    def answers(members):
        batch = processor.collate(members)
        ids = model.generate(**batch, max_new_tokens=8, min_new_tokens=8, do_sample=False)
        return ids[:, batch["input_ids"].shape[1] :].tolist()

    together = answers(prompts)
    assert together == [answers([prompt])[0] for prompt in prompts]
    assert len(set(map(tuple, together))) >= 3, "a model that always says the same cannot show a mix-up"


def test_an_answer_ends_with_the_turn_and_holds_no_image(family):
    model, processor = family
    settings = model.generation_config
    assert processor.tokenizer.convert_tokens_to_ids(processor.template.end) in settings.eos_token_id
    assert model.config.image_token_id in settings.suppress_tokens


def test_one_step_lowers_the_loss(family):
    model, processor = lively_copy(family)
    batch = processor.collate(samples_of(processor), padding_side="right")
    freeze(model, NATIVE_PARTS)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    first = objectives.get("sft")(model.train(), batch)
    (first.loss_sum / first.count).backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and not p.grad.any()]
    optimizer.step()
    assert objectives.get("sft")(model, batch).loss_sum < first.loss_sum


def lively_copy(family):
    """The same model again, to change it."""
    model, processor = family
    again = type(model)(model.config)
    again.load_state_dict(model.state_dict())
    return again, processor


def test_the_loss_is_an_explicit_sum_over_what_the_assistant_says(family):
    model, processor = family
    sample = processor.training_sample(TWO_PICTURES, PICTURES)
    output = objectives.get("sft")(model, processor.collate([sample], padding_side="right"))
    inputs = {key: value for key, value in processor.collate([sample]).items() if key != "labels"}
    with torch.no_grad():
        scores = model(**inputs).logits[0].double().log_softmax(-1)
    said = [(place, token) for place, token in enumerate(sample["labels"].tolist()) if token != IGNORE]
    expected = -sum(float(scores[place - 1, token]) for place, token in said)
    assert output.count == len(said)
    assert output.loss_sum.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("part", NATIVE_PARTS)
def test_a_part_that_trains_alone_leaves_the_others(family, part):
    model, processor = lively_copy(family)
    batch = processor.collate(samples_of(processor), padding_side="right")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    counts = freeze(model, [part])
    objectives.get("sft")(model.train(), batch).loss_sum.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01).step()
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {name for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, count in counts.items() if count] == [part]


def test_parts_are_what_their_names_say(family):
    """All parameters, each once; the connector's number by hand."""
    model, _ = family
    found = {name: list(part.parameters()) for name, part in parts(model).items()}
    assert list(found) == list(NATIVE_PARTS)
    ids = [id(p) for members in found.values() for p in members]
    assert len(ids) == len(set(ids)) == len(list(model.parameters()))
    assert sum(p.numel() for p in found["connector"]) == CONNECTORS[model.config.model_type]
    assert id(model.get_input_embeddings().weight) in {id(p) for p in found["language_model"]}
    assert sum(p.ndim >= 4 for p in found["vision_encoder"]) == 1, "the patch embedding is the encoder's"


def test_a_connector_that_cannot_be_found_is_an_error(monkeypatch):
    model, _ = lively("qwen2.5-vl-3b")
    monkeypatch.setattr(native_parts, "CONNECTOR_INSIDE", {})
    with pytest.raises(
        ConfigError, match=r"no connector can be told apart .*add 'qwen2_5_vl_vision' to CONNECTOR_INSIDE"
    ):
        parts(model)


def test_a_batch_of_texts_runs_the_encoder_and_learns_the_same(family):
    """Every rank must run the tower in every step; the blank picture changes neither loss nor gradient."""
    model, processor = lively_copy(family)
    freeze(model, NATIVE_PARTS)
    sample = processor.training_sample(TEXT_ONLY, [])
    batch = processor.collate([sample], padding_side="right")
    assert len(batch["input_ids"]) == 2 and (batch["labels"][1] == IGNORE).all()
    output = objectives.get("sft")(model, batch)
    output.loss_sum.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    model.zero_grad()
    plain = {key: value[:1, : len(sample["input_ids"])] for key, value in batch.items() if value.ndim == 2}
    plain = {key: value for key, value in plain.items() if key in sample or key == "attention_mask"}
    alone = objectives.get("sft")(model, plain)
    alone.loss_sum.backward()
    assert output.count == alone.count
    torch.testing.assert_close(output.loss_sum, alone.loss_sum)
    for name, p in model.named_parameters():
        expected = torch.zeros_like(p) if p.grad is None else p.grad
        if p.requires_grad:
            torch.testing.assert_close(gradients[name], expected, rtol=1e-4, atol=1e-4)


# ---- folders ---------------------------------------------------------------------------------------------------------


def test_saved_models_open_everywhere(family, tmp_path):
    """In mminstruct, and in transformers; and what transformers saved opens in mminstruct. All give the same logits."""
    model, processor = family
    checkpoint.save(tmp_path / "ours", model, processor)
    assert json.loads((tmp_path / "ours/mminstruct.json").read_text())["kind"] == "native"
    batch = processor.collate(samples_of(processor), padding_side="right")
    again, processor_again = mminstruct.load(tmp_path / "ours")
    assert processor_again.config == processor.config and processor_again.template.end == processor.template.end
    assert again.generation_config.eos_token_id == model.generation_config.eos_token_id

    theirs, report = AutoModelForImageTextToText.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values())
    theirs.save_pretrained(tmp_path / "theirs")
    AutoProcessor.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    assert not (tmp_path / "theirs/mminstruct.json").exists()
    plain, processor_plain = mminstruct.load(tmp_path / "theirs")
    for other, its_processor in ((again, processor_again), (plain, processor_plain)):
        same = its_processor.collate(samples_of(its_processor), padding_side="right")
        assert all(torch.equal(same[key], value) for key, value in batch.items())
        with torch.no_grad():
            assert torch.equal(other(**same).logits, model(**batch).logits)


def test_a_folder_that_does_not_say_how_to_generate_ends_with_the_turn(saved):
    folder, model, _ = saved
    (folder / "generation_config.json").unlink()
    again, _ = mminstruct.load(folder)
    assert again.generation_config.eos_token_id == model.generation_config.eos_token_id
    assert again.generation_config.suppress_tokens == model.generation_config.suppress_tokens


def test_commands_for_other_checkpoints_say_what_this_is(saved):
    with pytest.raises(CheckpointError, match="holds a native model, which transformers opens as it is"):
        verify(saved[0])


NAME = "multi_modal_projector.layer_norm.weight"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t, name: t.pop(name), "lacks the tensor .*multi_modal_projector.layer_norm.weight"),
        (lambda t, name: t.update(extra=torch.zeros(1)), "does not have: extra"),
        (lambda t, name: t.update({name: torch.zeros(3)}), "another shape .*multi_modal_projector.layer_norm.weight"),
    ],
)
def test_tensors_that_do_not_fit(saved, edit, message):
    path = saved[0] / "model.safetensors"
    tensors = load_file(path)
    edit(tensors, next(name for name in tensors if name.endswith(NAME)))
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=message):
        mminstruct.load(saved[0])


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_missing_file_is_an_error(saved, name):
    (saved[0] / name).unlink()
    with pytest.raises(CheckpointError, match=str(saved[0])):
        mminstruct.load(saved[0])


def test_a_cut_file_is_an_error(saved):
    path = saved[0] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="copy or save it again"):
        mminstruct.load(saved[0])


def test_pickled_weights_are_not_opened(saved):
    folder, model, _ = saved
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="a pickle only"):
        mminstruct.load(folder)


def test_a_language_model_alone_is_not_native(tmp_path):
    config = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    with pytest.raises(CheckpointError, match="no mminstruct checkpoint"):
        mminstruct.load(tmp_path / "llama")


def test_precision_and_device_are_as_asked(saved):
    model, _ = mminstruct.load(saved[0], dtype=torch.bfloat16, device="cpu")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16} and not model.training
