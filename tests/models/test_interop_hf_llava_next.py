"""transformers' LLaVA-NeXT: imported it computes the same on its own processor's inputs, exported it opens there."""

from __future__ import annotations

import json
import re

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaNextForConditionalGeneration
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

import mminstruct
from mminstruct.errors import CheckpointError, MminstructError
from mminstruct.models import checkpoint
from mminstruct.models.factory import read_row
from mminstruct.models.interop import export_checkpoint, import_checkpoint
from mminstruct.models.interop.keys import HF_LLAVA_NEXT
from tests.conftest import conversation, picture
from tests.models import interop as make

V1 = {"chat_template": "vicuna_v1"}


@pytest.fixture(scope="module")
def theirs():
    return make.hf_next_model()


@pytest.fixture
def saved(theirs, tmp_path):
    return make.save_hf(theirs, tmp_path / "theirs")


def reload(folder):
    model, info = LlavaNextForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return model.eval()


@pytest.mark.parametrize("layout", range(4), ids=[layout.name for layout in HF_LLAVA_NEXT])
def test_import_computes_the_same_in_every_layout(theirs, tmp_path, layout):
    folder = make.save_hf(theirs, tmp_path / "theirs", layout)
    newline = ["image_newline", "model.image_newline", "model.image_newline", "image_newline"][layout]
    assert newline in load_file(folder / make.WEIGHTS)
    if layout == 2:
        assert set(load_file(folder / make.WEIGHTS)) == set(theirs.state_dict())
    assert import_checkpoint(folder, tmp_path / "ours", **V1) == "hf-llava-next"
    make.assert_same_tiles(*mminstruct.load(tmp_path / "ours"), theirs, make.hf_processor(theirs))


@pytest.mark.parametrize(
    "settings",
    [{"text": make.mistral_config()}, {"vision_feature_layer": -1}, {"vision": {"hidden_act": "gelu"}}],
    ids=["mistral", "last layer", "gelu"],
)
def test_there_and_back_computes_the_same(tmp_path, settings):
    theirs = make.hf_next_model(**settings)
    import_checkpoint(make.save_hf(theirs, tmp_path / "theirs"), tmp_path / "ours", **V1)
    ours, processor = mminstruct.load(tmp_path / "ours")
    foreign = make.hf_processor(theirs)
    make.assert_same_tiles(ours, processor, theirs, foreign)
    export_checkpoint(tmp_path / "ours", tmp_path / "back", "hf-llava-next")
    make.assert_same_tiles(ours, processor, reload(tmp_path / "back"), foreign)


def test_export_has_the_hub_s_names(saved, tmp_path):
    import_checkpoint(saved, tmp_path / "ours", **V1)
    export_checkpoint(tmp_path / "ours", tmp_path / "back", "hf-llava-next")
    names = load_file(tmp_path / "back" / make.WEIGHTS)
    assert all(name.startswith(tuple(HF_LLAVA_NEXT[0].beginnings.values())) for name in names)
    assert {"image_newline", "vision_tower.vision_model.embeddings.class_embedding"} < set(names)
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert config["image_grid_pinpoints"] == make.PINPOINTS


def test_config_is_kept(saved, tmp_path):
    import_checkpoint(saved, tmp_path / "ours", **V1)
    model, processor = mminstruct.load(tmp_path / "ours")
    tiling = processor.config.tiling
    assert [list(one) for one in tiling.resolutions] == make.PINPOINTS and tiling.merge == "spatial_unpad"
    assert model.layout.tiling == tiling
    image = processor.config.image
    assert (image.resize, image.size, image.interpolation, image.mean[0]) == (
        "squash",
        make.SIZE,
        "bicubic",
        0.48145466,
    )
    assert processor.config.image_tokens == 4 and processor.tokenizer.pad_token == "<pad>"


def test_exported_processor_makes_the_same_inputs(saved, tmp_path):
    import_checkpoint(saved, tmp_path / "ours", **V1)
    export_checkpoint(tmp_path / "ours", tmp_path / "back", "hf-llava-next")
    _, processor = mminstruct.load(tmp_path / "ours")
    foreign = AutoProcessor.from_pretrained(tmp_path / "back")
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "\nWhat color is it?"}]}]
    text = foreign.apply_chat_template(messages, add_generation_prompt=True)
    by_pillow = LlavaNextImageProcessorPil.from_pretrained(tmp_path / "back")
    for seed, size in enumerate([(57, 33), (30, 100), (200, 7)]):
        image = picture(seed, size)
        wanted = processor.prompt(conversation("What color is it?", images=1), [image])
        found = foreign(images=image, text=text, return_tensors="pt")
        # Up to the last image token: behind it LLaVA tokenises anew, with a space piece that transformers omits.
        end = int((wanted["input_ids"] == processor.config.image_token_id).nonzero().max()) + 1
        assert found["input_ids"][0].tolist()[:end] == wanted["input_ids"].tolist()[:end]
        assert (found["input_ids"] == processor.config.image_token_id).sum() == processor.layout.tokens(
            processor.prepare(image).medium
        )
        # torchvision, which AutoProcessor prefers, resizes tensors and rounds elsewhere; Pillow's own is the same
        torch.testing.assert_close(found["pixel_values"][0], wanted["pixel_values"], rtol=0, atol=0.05)
        pillow = by_pillow(image, return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(pillow, wanted["pixel_values"], rtol=0, atol=1e-5)
    import_checkpoint(tmp_path / "back", tmp_path / "again")  # the template is known from what was written
    assert mminstruct.load(tmp_path / "again")[1].config.image == processor.config.image


@pytest.fixture(scope="module")
def row():
    """LLaVA-1.5 with tiles."""
    row = read_row("llava-1.5-7b")[0].model_dump(mode="json")
    row["vision_encoder"]["image"]["resize"] = "squash"
    return row | {"tiling": {"resolutions": [[336, 672], [672, 336], [672, 672]]}}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_back_and_forth_is_the_same_file(row, tmp_path, dtype):
    torch.manual_seed(0)
    checkpoint.save(tmp_path / "first", *mminstruct.create(row, tiny=True, dtype=dtype))
    export_checkpoint(tmp_path / "first", tmp_path / "theirs", "hf-llava-next", max_shard_size=60_000)
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 3
    import_checkpoint(tmp_path / "theirs", tmp_path / "second")
    first, second = ((tmp_path / name / make.WEIGHTS).read_bytes() for name in ("first", "second"))
    assert first == second
    one, two = (mminstruct.load(tmp_path / name) for name in ("first", "second"))
    assert one[0].dtype == two[0].dtype == dtype
    origins = {"origins"}
    assert one[1].config.model_dump(exclude=origins) == two[1].config.model_dump(exclude=origins)


# ---- what cannot be held --------------------------------------------------------------------------------------------


def refused(folder, tmp_path, match, **options):
    with pytest.raises(MminstructError, match=match) as caught:
        import_checkpoint(folder, tmp_path / "ours", **{**V1, **options})
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs"]  # nothing half-written


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "image_newline"}, "'image_newline' is missing"),
        (lambda t: t | {"image_newline": torch.zeros(47)}, r"has shape \[47\], config.json wants \[48\]"),
        (lambda t: t | {"image_separator": torch.zeros(48)}, "'image_separator' is unknown"),
    ],
    ids=["missing", "wrong size", "extra"],
)
def test_tensors_that_do_not_fit(saved, tmp_path, edit, match):
    make.change(saved, edit)
    refused(saved, tmp_path, match)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"vision_feature_select_strategy": "full"}, "vision_feature_select_strategy is 'full'"),
        ({"use_image_newline_parameter": False}, "use_image_newline_parameter is False"),
        ({"image_grid_pinpoints": [[28, 56]]}, r"image_grid_pinpoints .* are not the model's, \[\[28, 56\]\]"),
        ({"model_type": "llava"}, "model_type 'llava' with architecture 'LlavaNextForConditionalGeneration'"),
    ],
    ids=str,
)
def test_configs_that_cannot_be_held(saved, tmp_path, values, match):
    make.change_json(saved / "config.json", **values)
    refused(saved, tmp_path, match)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"size": {"shortest_edge": 14}}, "size .* does not fit the tower"),
        ({"crop_size": {"height": 14, "width": 14}}, "crop_size .* does not fit the tower"),
        ({"image_processor_type": "CLIPImageProcessor"}, "image_processor_type 'CLIPImageProcessor' is unknown"),
    ],
    ids=str,
)
def test_image_preparation_that_cannot_be_held(saved, tmp_path, values, match):
    file = saved / "processor_config.json"
    inside = json.loads(file.read_text())["image_processor"]
    make.change_json(file, image_processor={**inside, **values})
    refused(saved, tmp_path, match)


def test_a_template_that_does_not_fit_the_tokenizer(saved, tmp_path):
    match = "the chat template 'chatml' ends a turn with '<|im_end|>', which its tokenizer splits into"
    refused(saved, tmp_path, re.escape(match), chat_template="chatml")


def test_models_that_the_formats_cannot_hold(row, tmp_path):
    checkpoint.save(tmp_path / "plain", *mminstruct.create("llava-1.5-7b", tiny=True))
    checkpoint.save(tmp_path / "tiles", *mminstruct.create(row, tiny=True))
    row = row | {"tiling": {**row["tiling"], "merge": "flat"}}
    checkpoint.save(tmp_path / "flat", *mminstruct.create(row, tiny=True))
    for name, format_name, match in [
        ("plain", "hf-llava-next", "has tiling with merge spatial_unpad, this model has no tiling"),
        ("flat", "hf-llava-next", "has tiling with merge spatial_unpad, this model has tiling with merge flat"),
        ("tiles", "hf-llava", "hf-llava has no tiling, this model has tiling with merge spatial_unpad"),
    ]:
        with pytest.raises(CheckpointError, match=match):
            export_checkpoint(tmp_path / name, tmp_path / "back", format_name)
    assert not (tmp_path / "back").exists()
