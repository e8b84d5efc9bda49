"""transformers' LLaVA: imported it computes the same, exported transformers opens it, and back it is the same file."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

import mminstruct
from mminstruct.errors import CheckpointError, MminstructError, RunError
from mminstruct.models import checkpoint
from mminstruct.models.interop import export_checkpoint, import_checkpoint
from mminstruct.models.interop.keys import HF_LLAVA
from tests.conftest import conversation, picture
from tests.models import interop as make

V1 = {"chat_template": "vicuna_v1"}


@pytest.fixture(scope="module")
def theirs():
    return make.hf_model()


@pytest.fixture
def saved(theirs, tmp_path):
    return make.save_hf(theirs, tmp_path / "theirs")


def reload(folder):
    model, info = LlavaForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return model.eval()


@pytest.mark.parametrize("layout", range(4), ids=[layout.name for layout in HF_LLAVA])
def test_import_computes_the_same_in_every_layout(theirs, tmp_path, layout):
    folder = make.save_hf(theirs, tmp_path / "theirs", layout)
    assert import_checkpoint(folder, tmp_path / "ours", **V1) == "hf-llava"
    make.assert_same(*mminstruct.load(tmp_path / "ours"), theirs)


@pytest.mark.parametrize(
    "settings",
    [
        {"vision_feature_select_strategy": "full"},
        {"vision_feature_layer": -1},
        {"vision_feature_layer": -3},
        {"vision": {"hidden_act": "gelu"}},
        {"text": {"tie_word_embeddings": True}},
        {"tie_word_embeddings": True},
    ],
    ids=str,
)
def test_settings_that_change_what_is_computed(tmp_path, settings):
    theirs = make.hf_model(**settings)
    folder = make.save_hf(theirs, tmp_path / "theirs")
    import_checkpoint(folder, tmp_path / "ours", **V1)
    make.assert_same(*mminstruct.load(tmp_path / "ours"), theirs)
    export_checkpoint(tmp_path / "ours", tmp_path / "back", "hf-llava")
    make.assert_same(*mminstruct.load(tmp_path / "ours"), reload(tmp_path / "back"))


def test_config_is_kept(saved, tmp_path):
    import_checkpoint(saved, tmp_path / "ours", **V1)
    model, processor = mminstruct.load(tmp_path / "ours")
    encoder = model.vision_encoder.config
    assert (encoder.layer, encoder.feature, encoder.image.size) == (-2, "patch", make.SIZE)
    assert encoder.architecture["hidden_act"] == "quick_gelu"
    assert encoder.image.resize == "crop" and encoder.image.mean[0] == 0.48145466
    assert model.config.text_config.vocab_size == 576
    assert processor.config.chat_template.name == "vicuna_v1"
    assert processor.config.image_tokens == 4
    assert processor.tokenizer.pad_token == "<pad>"


def test_export_opens_in_transformers(saved, theirs, tmp_path):
    import_checkpoint(saved, tmp_path / "ours", **V1)
    export_checkpoint(tmp_path / "ours", tmp_path / "back", "hf-llava")
    ours, processor = mminstruct.load(tmp_path / "ours")
    make.assert_same(ours, processor, reload(tmp_path / "back"))
    names = load_file(tmp_path / "back" / make.WEIGHTS)
    begins = tuple(HF_LLAVA[0].beginnings.values())
    assert all(name.startswith(begins) for name in names)
    assert "vision_tower.vision_model.embeddings.class_embedding" in names


@pytest.mark.parametrize("resize", ["pad", "crop", "squash"])
def test_exported_processor_makes_the_same_inputs(saved, tmp_path, resize):
    import_checkpoint(saved, tmp_path / "ours", **V1)
    file = tmp_path / "ours" / "mminstruct.json"
    for place in (file, tmp_path / "ours" / "config.json"):
        place.write_text(place.read_text().replace('"resize": "crop"', f'"resize": "{resize}"'))
    export_checkpoint(tmp_path / "ours", tmp_path / "back", "hf-llava")
    _, processor = mminstruct.load(tmp_path / "ours")
    image, question = picture(1, (40, 60)), conversation("What color is it?", images=1)
    wanted = processor.prompt(question, [image])
    foreign = AutoProcessor.from_pretrained(tmp_path / "back")
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "\nWhat color is it?"}]}]
    text = foreign.apply_chat_template(messages, add_generation_prompt=True)
    found = foreign(images=image, text=text, return_tensors="pt")
    # Up to the last image token: behind it LLaVA tokenises anew, with a space piece that transformers does not write.
    begin = wanted["input_ids"].tolist().index(processor.config.image_token_id) + processor.config.image_tokens
    assert found["input_ids"][0].tolist()[:begin] == wanted["input_ids"].tolist()[:begin]
    assert found["input_ids"].tolist()[0].count(processor.config.image_token_id) == processor.config.image_tokens
    # transformers resizes tensors, we resize pictures: values are rounded at different places
    torch.testing.assert_close(found["pixel_values"], wanted["pixel_values"], rtol=0, atol=0.05)
    import_checkpoint(tmp_path / "back", tmp_path / "again")  # the template is known from what was written
    assert (
        json.loads((tmp_path / "again" / "mminstruct.json").read_text())["image"]
        == json.loads(file.read_text())["image"]
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_back_and_forth_is_the_same_file(tmp_path, dtype):
    torch.manual_seed(0)
    checkpoint.save(tmp_path / "first", *mminstruct.create("llava-1.5-7b", tiny=True, dtype=dtype))
    export_checkpoint(tmp_path / "first", tmp_path / "theirs", "hf-llava")
    import_checkpoint(tmp_path / "theirs", tmp_path / "second")
    first, second = ((tmp_path / name / make.WEIGHTS).read_bytes() for name in ("first", "second"))
    assert first == second
    one, two = (mminstruct.load(tmp_path / name) for name in ("first", "second"))
    assert one[0].dtype == two[0].dtype == dtype
    assert one[1].config.chat_template == two[1].config.chat_template
    assert one[0].generation_config.eos_token_id == two[0].generation_config.eos_token_id


def test_weights_in_many_files(saved, theirs, tmp_path):
    import_checkpoint(saved, tmp_path / "ours", **V1, max_shard_size=50_000)
    assert len(list((tmp_path / "ours").glob("model-*.safetensors"))) > 3
    make.assert_same(*mminstruct.load(tmp_path / "ours"), theirs)
    export_checkpoint(tmp_path / "ours", tmp_path / "back", "hf-llava", max_shard_size=50_000)
    make.assert_same(*mminstruct.load(tmp_path / "ours"), reload(tmp_path / "back"))


def to_bin(folder, extra=None):
    torch.save({**load_file(folder / make.WEIGHTS), **(extra or {})}, folder / "pytorch_model.bin")
    (folder / make.WEIGHTS).unlink()


def test_bin_files_are_read(saved, theirs, tmp_path):
    to_bin(saved)
    import_checkpoint(saved, tmp_path / "ours", **V1)
    make.assert_same(*mminstruct.load(tmp_path / "ours"), theirs)


def test_buffers_of_old_versions_are_not_in_the_way(saved, theirs, tmp_path):
    old = {
        "vision_tower.vision_model.embeddings.position_ids": torch.arange(5)[None],
        "language_model.model.layers.1.self_attn.rotary_emb.inv_freq": torch.ones(6),
    }
    make.change(saved, lambda tensors: tensors | old)
    import_checkpoint(saved, tmp_path / "ours", **V1)
    make.assert_same(*mminstruct.load(tmp_path / "ours"), theirs)


# ---- what cannot be read --------------------------------------------------------------------------------------------


class Code:
    """A pickle of this would run a command."""

    def __reduce__(self):
        return (print, ("code has run",))


def refused(folder, tmp_path, match, **options):
    with pytest.raises(MminstructError, match=match) as caught:
        import_checkpoint(folder, tmp_path / "ours", **{**V1, **options})
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs"]  # nothing half-written


@pytest.mark.parametrize("protocol", ["zip", "plain"])
def test_a_pickle_with_code_is_refused(saved, tmp_path, capsys, protocol):
    if protocol == "zip":
        to_bin(saved, {"extra": Code()})
    else:
        (saved / make.WEIGHTS).unlink()
        (saved / "pytorch_model.bin").write_bytes(pickle.dumps({"extra": Code()}))
    refused(saved, tmp_path, "pytorch_model.bin (is a pickle that holds more than tensors|cannot be read)")
    assert "code has run" not in capsys.readouterr().out


LINEAR = "multi_modal_projector.linear_1.weight"
QUERY = "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda t: {k: v for k, v in t.items() if k != LINEAR}, f"{LINEAR}' is missing"),
        (lambda t: {k: v for k, v in t.items() if k != QUERY}, f"{QUERY}' is missing"),
        (lambda t: t | {"image_newline": torch.zeros(48)}, "'image_newline' is unknown"),
        (lambda t: t | {LINEAR: torch.zeros(48, 33)}, r"has shape \[48, 33\], config.json wants \[48, 32\]"),
        (lambda t: t | {LINEAR: torch.zeros(48, 32, dtype=torch.int8)}, f"'{LINEAR}' is stored as I8"),
    ],
    ids=["missing", "missing in the tower", "extra", "wrong size", "quantised"],
)
def test_tensors_that_do_not_fit(saved, tmp_path, edit, match):
    make.change(saved, edit)
    refused(saved, tmp_path, match)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"projector_hidden_act": "relu"}, "projector_hidden_act is 'relu'"),
        ({"multimodal_projector_bias": False}, "multimodal_projector_bias is False"),
        ({"vision_feature_layer": [-2, -5]}, r"vision_feature_layer is \[-2, -5\]"),
        ({"vision_feature_layer": 2}, "vision_feature_layer is 2"),
        ({"vision_feature_select_strategy": "cls"}, "vision_feature_select_strategy is 'cls'"),
        ({"image_token_index": 5}, "image_token_index is 5"),
        ({"model_type": "llava_next"}, "model_type 'llava_next'"),
        ({"architectures": ["LlavaNextForConditionalGeneration"]}, "'LlavaNextForConditionalGeneration'"),
        ({"vision_config": {"model_type": "pixtral"}}, "vision_config: model_type is 'pixtral'"),
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
        ({"resample": 9}, "resample 9 is unknown"),
        ({"size": {"shortest_edge": 99}}, "size .* does not fit the tower"),
        ({"crop_size": {"height": 9, "width": 9}}, "crop_size .* does not fit the tower"),
        ({"image_processor_type": "ViTImageProcessor"}, "image_processor_type 'ViTImageProcessor' is unknown"),
    ],
    ids=str,
)
def test_image_preparation_that_cannot_be_held(saved, tmp_path, values, match):
    file = saved / "processor_config.json"
    inside = json.loads(file.read_text())["image_processor"]
    make.change_json(file, image_processor={**inside, **values})
    refused(saved, tmp_path, match)


def test_the_chat_template_is_not_guessed(saved, tmp_path):
    refused(saved, tmp_path, "--chat-template", chat_template=None)
    refused(saved, tmp_path, "no chat template is called 'vicuna'", chat_template="vicuna")
    refused(saved, tmp_path, "drop --vision-tower and --base", vision_tower=saved)
    refused(saved, tmp_path, "Did you mean 'hf-llava'", format="hf_llava")


def test_an_existing_folder_is_not_overwritten(saved, tmp_path):
    with pytest.raises(RunError, match="already exists"):
        import_checkpoint(saved, saved, **V1)


@pytest.mark.parametrize(("model", "match"), [("nano", "connector"), ("siglip2-qwen3-0.6b", "connector|CLIP tower")])
def test_models_that_the_format_cannot_hold(tmp_path, model, match):
    checkpoint.save(tmp_path / "theirs", *mminstruct.create(model, tiny=True))
    with pytest.raises(CheckpointError, match=match):
        export_checkpoint(tmp_path / "theirs", tmp_path / "back", "hf-llava")
    assert not (tmp_path / "back").exists()
