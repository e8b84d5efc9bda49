"""The original LLaVA's folder: imported it computes the same, and back it is the same file."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mminstruct
from mminstruct.errors import CheckpointError, MminstructError
from mminstruct.models import checkpoint
from mminstruct.models.interop import export_checkpoint, import_checkpoint
from tests.models import interop as make

V1 = {"chat_template": "vicuna_v1"}


@pytest.fixture(scope="module")
def theirs():
    return make.hf_model()


def test_tower_in_the_file(theirs, tmp_path):
    folder = make.save_llava(theirs, tmp_path / "theirs")
    tower = make.save_tower(theirs, tmp_path / "tower")
    (tower / make.WEIGHTS).unlink()  # its description is enough
    assert import_checkpoint(folder, tmp_path / "ours", vision_tower=tower, **V1) == "llava"
    make.assert_same(*mminstruct.load(tmp_path / "ours"), theirs)


@pytest.mark.parametrize("kind", ["hub", "transformers 5", "clip"])
def test_tower_in_its_own_folder(theirs, tmp_path, kind):
    folder = make.save_llava(theirs, tmp_path / "theirs", tower_saved=False)
    tower = make.save_tower(theirs, tmp_path / "tower", kind)
    import_checkpoint(folder, tmp_path / "ours", vision_tower=tower, **V1)
    make.assert_same(*mminstruct.load(tmp_path / "ours"), theirs)


def test_tower_in_the_file_wins_over_its_folder(theirs, tmp_path):
    """A tower that was trained along is in the file; the folder holds the one that it began as."""
    folder = make.save_llava(theirs, tmp_path / "theirs")
    tower = make.save_tower(theirs, tmp_path / "tower")
    make.change(tower, lambda tensors: {name: torch.zeros_like(tensor) for name, tensor in tensors.items()})
    import_checkpoint(folder, tmp_path / "ours", vision_tower=tower, **V1)
    make.assert_same(*mminstruct.load(tmp_path / "ours"), theirs)


def test_a_linear_projector(tmp_path):
    theirs = make.hf_model()
    torch.manual_seed(1)
    theirs.model.multi_modal_projector = nn.Linear(32, 48)
    for settings in ({"mm_projector_type": "linear"}, {"mm_projector_type": ...}):  # the first LLaVA had no such key
        name = str(settings["mm_projector_type"])
        folder = make.save_llava(theirs, tmp_path / f"theirs {name}", **settings)
        tower = make.save_tower(theirs, tmp_path / f"tower {name}")
        import_checkpoint(folder, tmp_path / name, vision_tower=tower, **V1)
        model, processor = mminstruct.load(tmp_path / name)
        assert model.config.connector["kind"] == "linear"
        make.assert_same(model, processor, theirs)


@pytest.mark.parametrize("layer", [-1, -2])
def test_class_token_and_layer(tmp_path, layer):
    theirs = make.hf_model(vision_feature_select_strategy="full", vision_feature_layer=layer)
    settings = {"mm_vision_select_feature": "cls_patch", "mm_vision_select_layer": layer}
    folder = make.save_llava(theirs, tmp_path / "theirs", **settings)
    tower = make.save_tower(theirs, tmp_path / "tower")
    import_checkpoint(folder, tmp_path / "ours", vision_tower=tower, **V1)
    model, processor = mminstruct.load(tmp_path / "ours")
    assert processor.config.image_tokens == 5
    make.assert_same(model, processor, theirs)


def test_a_vocabulary_without_spare_rows_gets_one_for_the_image(theirs, tmp_path):
    rows = len(make.make_tokenizer(bos=True, image=False))
    folder = make.save_llava(theirs, tmp_path / "theirs", rows=rows)
    tower = make.save_tower(theirs, tmp_path / "tower")
    import_checkpoint(folder, tmp_path / "ours", vision_tower=tower, **V1)
    model, processor = mminstruct.load(tmp_path / "ours")
    assert model.config.text_config.vocab_size == rows + 1
    assert processor.config.image_token_id == rows
    head = model.get_output_embeddings().weight
    torch.testing.assert_close(head[rows], head[:rows].mean(dim=0))
    make.assert_same(model, processor, theirs, rows=rows)


@pytest.mark.parametrize(("ratio", "resize"), [("pad", "pad"), ("square", "crop"), (..., "crop")])
def test_image_preparation(theirs, tmp_path, ratio, resize):
    folder = make.save_llava(theirs, tmp_path / "theirs", image_aspect_ratio=ratio)
    tower = make.save_tower(theirs, tmp_path / "tower")
    import_checkpoint(folder, tmp_path / "ours", vision_tower=tower, **V1)
    image = mminstruct.load(tmp_path / "ours")[1].config.image
    assert (image.resize, image.size, image.interpolation) == (resize, make.SIZE, "bicubic")


def test_image_preparation_as_files_before_2023_say_it(theirs, tmp_path):
    folder = make.save_llava(theirs, tmp_path / "theirs", image_aspect_ratio="square")
    tower = make.save_tower(theirs, tmp_path / "tower")
    old = {"image_processor_type": ..., "do_rescale": ..., "rescale_factor": ..., "size": make.SIZE}
    file = tower / "preprocessor_config.json"
    make.change_json(file, **old, crop_size=make.SIZE, feature_extractor_type="CLIPFeatureExtractor")
    import_checkpoint(folder, tmp_path / "ours", vision_tower=tower, **V1)
    assert mminstruct.load(tmp_path / "ours")[1].config.image.resize == "crop"


CONNECTORS = {
    "linear": {"kind": "linear"},
    "mlp": {"kind": "mlp"},
    "mlp with three layers": {"kind": "mlp", "options": {"layers": 3}},
}


@pytest.mark.parametrize("connector", ["linear", "mlp", "mlp with three layers"])
@pytest.mark.parametrize("shard", ["5GB", 40_000], ids=["one file", "many"])
def test_back_and_forth_is_the_same(tmp_path, connector, shard):
    from mminstruct.models.factory import read_row

    row = read_row("llava-1.5-7b")[0].model_dump(mode="json") | {"connector": CONNECTORS[connector]}
    torch.manual_seed(0)
    checkpoint.save(tmp_path / "first", *mminstruct.create(row, tiny=True))
    export_checkpoint(tmp_path / "first", tmp_path / "theirs", "llava", max_shard_size=shard)
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) == 1 or shard != "5GB"
    import_checkpoint(tmp_path / "theirs", tmp_path / "second")
    first, second = ((tmp_path / name / make.WEIGHTS).read_bytes() for name in ("first", "second"))
    assert first == second
    one, two = (mminstruct.load(tmp_path / name) for name in ("first", "second"))
    kept = {"architecture", "weights"}  # written out in full, and not to be fetched
    assert one[0].vision_encoder.config.model_dump(exclude=kept) == two[0].vision_encoder.config.model_dump(
        exclude=kept
    )
    assert one[1].config.image == two[1].config.image
    assert one[1].config.chat_template == two[1].config.chat_template


def test_the_way_from_one_format_to_the_other(theirs, tmp_path):
    folder = make.save_llava(theirs, tmp_path / "theirs")
    tower = make.save_tower(theirs, tmp_path / "tower")
    import_checkpoint(folder, tmp_path / "ours", vision_tower=tower, **V1)
    export_checkpoint(tmp_path / "ours", tmp_path / "hf", "hf-llava")
    export_checkpoint(tmp_path / "ours", tmp_path / "llava", "llava")
    for name in ("hf", "llava"):
        import_checkpoint(tmp_path / name, tmp_path / f"{name} again")
        make.assert_same(*mminstruct.load(tmp_path / f"{name} again"), theirs)


# ---- what cannot be read --------------------------------------------------------------------------------------------


def refused(folder, tmp_path, match, **options):
    with pytest.raises(MminstructError, match=match) as caught:
        import_checkpoint(folder, tmp_path / "ours", **{**V1, **options})
    assert "\n" not in str(caught.value)
    assert not {path.name for path in tmp_path.iterdir()} - {"theirs", "tower"}  # nothing half-written


def test_a_tower_that_lies_nowhere(theirs, tmp_path):
    folder = make.save_llava(theirs, tmp_path / "theirs", tower_saved=False)
    refused(folder, tmp_path, "'somebody/clip-tower'; give a local folder of it with --vision-tower")
    refused(folder, tmp_path, "holds no config.json", vision_tower=tmp_path)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"mm_projector_type": "mlp2x_relu"}, "mm_projector_type is 'mlp2x_relu'"),
        ({"mm_vision_select_feature": "cls"}, "mm_vision_select_feature is 'cls'"),
        ({"mm_vision_select_layer": [-2]}, r"mm_vision_select_layer is \[-2\]"),
        ({"mm_use_im_start_end": True}, "mm_use_im_start_end is True"),
        ({"image_aspect_ratio": "anyres_max_9"}, "image_aspect_ratio is 'anyres_max_9'"),
        ({"mm_patch_merge_type": "spatial"}, "mm_patch_merge_type is 'spatial'"),
        ({"mm_resampler_type": "qformer"}, "mm_resampler_type is 'qformer'"),
        ({"mm_novelty": 1}, "key 'mm_novelty' is unknown"),
        ({"mm_hidden_size": 99}, "mm_hidden_size is 99, the tower .* has 32"),
        ({"architectures": ["LlavaMptForCausalLM"]}, "'LlavaMptForCausalLM'"),
        ({"hidden_size": 64}, "config.json wants"),
    ],
    ids=str,
)
def test_configs_that_cannot_be_held(theirs, tmp_path, values, match):
    folder = make.save_llava(theirs, tmp_path / "theirs", **values)
    refused(folder, tmp_path, match, vision_tower=make.save_tower(theirs, tmp_path / "tower"))


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "model.mm_projector.0.bias"}, "mm_projector.0.bias' is missing"),
        (lambda t: {k: v for k, v in t.items() if "layer_norm1.bias" not in k}, "layer_norm1.bias' is missing"),
        (lambda t: t | {"model.image_newline": torch.zeros(48)}, "'model.image_newline' is unknown"),
    ],
    ids=["missing", "missing in the tower", "extra"],
)
def test_tensors_that_do_not_fit(theirs, tmp_path, edit, match):
    folder = make.save_llava(theirs, tmp_path / "theirs")
    make.change(folder, edit)
    refused(folder, tmp_path, match, vision_tower=make.save_tower(theirs, tmp_path / "tower"))


def test_a_tower_of_another_kind(theirs, tmp_path):
    folder = make.save_llava(theirs, tmp_path / "theirs")
    tower = make.save_tower(theirs, tmp_path / "tower")
    make.change_json(tower / "config.json", model_type="siglip_vision_model")
    refused(folder, tmp_path, "model_type is 'siglip_vision_model'", vision_tower=tower)


@pytest.mark.parametrize(
    ("model", "match"), [("nano", "CLIP tower|pads or crops|connector"), ("siglip2-qwen3-0.6b", "connector|Llama")]
)
def test_models_that_the_format_cannot_hold(tmp_path, model, match):
    checkpoint.save(tmp_path / "theirs", *mminstruct.create(model, tiny=True))
    with pytest.raises(CheckpointError, match=match):
        export_checkpoint(tmp_path / "theirs", tmp_path / "back", "llava")
    assert not (tmp_path / "back").exists()
