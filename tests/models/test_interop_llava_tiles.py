"""The original LLaVA-1.6 folder, and what the first stage of training leaves: imported they compute the same."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaForCausalLM

import mminstruct
from mminstruct.errors import MminstructError
from mminstruct.models import checkpoint
from mminstruct.models.factory import read_row
from mminstruct.models.interop import export_checkpoint, import_checkpoint
from tests.conftest import conversation, make_tokenizer, picture
from tests.models import interop as make

V1 = {"chat_template": "vicuna_v1"}
# As the folders of liuhaotian/llava-v1.6-* have it; resolutions are width and height there.
TILES = {
    "model_type": "llava",
    "image_aspect_ratio": "anyres",
    "mm_patch_merge_type": "spatial_unpad",
    "image_grid_pinpoints": [[width, height] for height, width in make.PINPOINTS],
    "image_crop_resolution": 224,
    "image_split_resolution": 224,
    "mm_resampler_type": None,
    "mm_vision_tower_lr": 2e-06,
    "unfreeze_mm_vision_tower": True,
}


@pytest.fixture(scope="module")
def theirs():
    # No pinpoint's mirror image is among them: confusing width and height shows.
    return make.hf_next_model(image_grid_pinpoints=make.PINPOINTS[:1] + make.PINPOINTS[3:4])


@pytest.fixture
def saved(theirs, tmp_path):
    pinpoints = [[width, height] for height, width in theirs.config.image_grid_pinpoints]
    make.save_tower(theirs, tmp_path / "tower")
    return make.save_llava(theirs, tmp_path / "theirs", **TILES | {"image_grid_pinpoints": pinpoints})


def foreign(theirs):
    processor = make.hf_processor(theirs)
    processor.image_processor.image_grid_pinpoints = theirs.config.image_grid_pinpoints
    return processor


def test_import_computes_the_same(saved, theirs, tmp_path):
    assert import_checkpoint(saved, tmp_path / "ours", vision_tower=tmp_path / "tower", **V1) == "llava"
    ours, processor = mminstruct.load(tmp_path / "ours")
    make.assert_same_tiles(ours, processor, theirs, foreign(theirs))
    left = ours.config.text_config.to_dict()
    assert not [key for key in left if key in TILES and key != "model_type"]


def test_a_mistral_there_and_back(tmp_path):
    theirs = make.hf_next_model(text=make.mistral_config())
    folder = make.save_llava(
        theirs,
        tmp_path / "theirs",
        **TILES | {"model_type": "llava_mistral", "architectures": ["LlavaMistralForCausalLM"]},
    )
    import_checkpoint(folder, tmp_path / "ours", vision_tower=make.save_tower(theirs, tmp_path / "tower"), **V1)
    export_checkpoint(tmp_path / "ours", tmp_path / "llava", "llava")
    import_checkpoint(tmp_path / "llava", tmp_path / "again")
    ours, processor = mminstruct.load(tmp_path / "again")
    assert ours.config.text_config.model_type == "mistral"
    make.assert_same_tiles(ours, processor, theirs, make.hf_processor(theirs))


@torch.no_grad()
def test_flat_tiles_stand_one_after_the_other(saved, theirs, tmp_path):
    """transformers has no such model, so its parts are put together by hand."""
    make.change(saved, lambda tensors: {k: v for k, v in tensors.items() if k != "model.image_newline"})
    make.change_json(saved / "config.json", mm_patch_merge_type="flat")
    import_checkpoint(saved, tmp_path / "ours", vision_tower=tmp_path / "tower", **V1)
    ours, processor = mminstruct.load(tmp_path / "ours")
    sample = processor.prompt(conversation("What color is it?", images=1), [picture(1, (30, 90))])
    assert len(sample["pixel_values"]) == 1 + 3
    seen = theirs.model.vision_tower(sample["pixel_values"], output_hidden_states=True).hidden_states[-2][:, 1:]
    vectors = theirs.model.multi_modal_projector(seen).flatten(0, 1)
    embeddings = theirs.get_input_embeddings()(sample["input_ids"])
    embeddings[sample["input_ids"] == processor.config.image_token_id] = vectors
    hidden = theirs.model.language_model(inputs_embeds=embeddings[None]).last_hidden_state
    found = ours(**processor.collate([sample])).logits
    torch.testing.assert_close(found, theirs.lm_head(hidden), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "pairs", [[[28, 56], [56, 28]], "[(28, 56), (56, 28)]"], ids=["list", "as on the command line"]
)
def test_of_equal_resolutions_the_first_is_taken(saved, tmp_path, pairs):
    """A tiny picture fits 28 wide and 56 high as well as 56 wide and 28 high; the original takes the first."""
    make.change_json(saved / "config.json", image_grid_pinpoints=pairs)
    import_checkpoint(saved, tmp_path / "ours", vision_tower=tmp_path / "tower", **V1)
    layout = mminstruct.load(tmp_path / "ours")[1].layout
    assert layout.tiling.resolutions == ((56, 28), (28, 56))
    assert layout.resolution(5, 5) == (56, 28)


@pytest.mark.parametrize("merge", ["spatial_unpad", "flat"])
def test_back_and_forth_is_the_same(tmp_path, merge):
    row = read_row("llava-1.5-7b")[0].model_dump(mode="json")
    row["vision_encoder"]["image"]["resize"] = "squash"
    row["tiling"] = {"resolutions": [[336, 672], [1008, 336]], "merge": merge}
    torch.manual_seed(0)
    checkpoint.save(tmp_path / "first", *mminstruct.create(row, tiny=True, dtype=torch.bfloat16))
    export_checkpoint(tmp_path / "first", tmp_path / "theirs", "llava", max_shard_size=60_000)
    import_checkpoint(tmp_path / "theirs", tmp_path / "second")
    first, second = ((tmp_path / name / make.WEIGHTS).read_bytes() for name in ("first", "second"))
    assert first == second
    one, two = (mminstruct.load(tmp_path / name)[1].config for name in ("first", "second"))
    assert one.model_dump(exclude={"origins"}) == two.model_dump(exclude={"origins"})


# ---- a projector alone ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["llava", "llava_llama"])
def stage(request, tmp_path):
    """A random LLaVA of transformers; beside it its projector, its language model and its tower, each in a folder."""
    theirs = make.hf_model()
    language_model = LlamaForCausalLM(theirs.config.text_config).eval()
    language_model.model.load_state_dict(theirs.model.language_model.state_dict())
    language_model.lm_head.load_state_dict(theirs.lm_head.state_dict())
    language_model.save_pretrained(tmp_path / "base")
    make_tokenizer(bos=True, image=False).save_pretrained(tmp_path / "base")
    make.save_tower(theirs, tmp_path / "tower")
    whole = make.save_llava(theirs, tmp_path / "theirs", model_type=request.param, architectures=["LlamaForCausalLM"])
    for file in whole.iterdir():
        if file.name != "config.json":
            file.unlink()
    projector = theirs.model.multi_modal_projector
    torch.save(
        {
            f"model.mm_projector.{place}.{name}": tensor
            for place, part in ((0, projector.linear_1), (2, projector.linear_2))
            for name, tensor in part.state_dict().items()
        },
        whole / "mm_projector.bin",
    )
    return theirs


def test_a_projector_and_what_it_was_trained_on(stage, tmp_path):
    options = {"vision_tower": tmp_path / "tower", "base": tmp_path / "base", **V1}
    assert import_checkpoint(tmp_path / "theirs", tmp_path / "ours", **options) == "llava"
    make.assert_same(*mminstruct.load(tmp_path / "ours"), stage)


def test_a_projector_beside_a_whole_model_is_not_read(stage, tmp_path):
    """liuhaotian/llava-v1.5-7b holds both; the model's own file has the projector that was tuned along."""
    make.save_llava(stage, tmp_path / "whole")
    torch.save({"model.mm_projector.0.weight": torch.zeros(48, 32)}, tmp_path / "whole" / "mm_projector.bin")
    import_checkpoint(tmp_path / "whole", tmp_path / "ours", vision_tower=tmp_path / "tower", **V1)
    make.assert_same(*mminstruct.load(tmp_path / "ours"), stage)
    with pytest.raises(MminstructError, match="it is whole already; drop --base"):
        import_checkpoint(tmp_path / "whole", tmp_path / "o", vision_tower=tmp_path / "tower", base=tmp_path, **V1)


# ---- what cannot be read --------------------------------------------------------------------------------------------


def refused(tmp_path, match, **options):
    with pytest.raises(MminstructError, match=match) as caught:
        import_checkpoint(
            tmp_path / "theirs", tmp_path / "ours", **{"vision_tower": tmp_path / "tower", **V1, **options}
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours").exists()


def test_a_projector_without_its_model(stage, tmp_path):
    refused(tmp_path, "a projector alone .*; give a local folder of that language model with --base", base=None)
    (tmp_path / "theirs" / "mm_projector.bin").unlink()
    refused(tmp_path, "holds no weights", base=None)


def test_a_projector_and_another_model(stage, tmp_path):
    make.change(tmp_path / "base", lambda t: t | {"model.norm.weight": torch.zeros(47)})
    refused(tmp_path, r"'language_model.model.norm.weight' .* has shape \[47\]", base=tmp_path / "base")
    make.change(tmp_path / "base", lambda t: {k: v for k, v in t.items() if k != "model.norm.weight"})
    refused(tmp_path, "'model.norm.weight' is missing", base=tmp_path / "base")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"image_aspect_ratio": "pad"}, "mm_patch_merge_type is 'spatial_unpad' with image_aspect_ratio 'pad'"),
        ({"image_grid_pinpoints": ...}, "image_grid_pinpoints is None, no list of pairs"),
        ({"image_grid_pinpoints": [28, 56]}, "no list of pairs"),
        ({"image_grid_pinpoints": "(1x1),...,(6x6)"}, "no list of pairs"),
        ({"image_grid_pinpoints": [[28, 57]]}, r"a tile is 28 x 28 pixels"),
    ],
    ids=str,
)
def test_tiles_that_cannot_be_held(saved, tmp_path, values, match):
    make.change_json(saved / "config.json", **values)
    refused(tmp_path, match)


def test_a_newline_too_many_or_too_few(saved, tmp_path):
    make.change_json(saved / "config.json", mm_patch_merge_type="flat")
    refused(tmp_path, "'model.image_newline' is unknown")
    make.change_json(saved / "config.json", mm_patch_merge_type="spatial_unpad")
    make.change(saved, lambda tensors: {k: v for k, v in tensors.items() if k != "model.image_newline"})
    refused(tmp_path, "'model.image_newline' is missing")


def test_a_tower_with_another_activation(saved, theirs, tmp_path):
    """QuickGELU or not shows in no tensor; two descriptions of one tower that differ are found."""
    import_checkpoint(saved, tmp_path / "first", vision_tower=tmp_path / "tower", **V1)
    export_checkpoint(tmp_path / "first", tmp_path / "exported", "llava")
    make.change_json(tmp_path / "tower" / "config.json", initializer_range=0.5)  # of no consequence
    import_checkpoint(tmp_path / "exported", tmp_path / "second", vision_tower=tmp_path / "tower")
    make.change_json(tmp_path / "tower" / "config.json", hidden_act="gelu")
    with pytest.raises(MminstructError, match=r"hidden_act is 'gelu', but .*vision_tower.* says 'quick_gelu'"):
        import_checkpoint(tmp_path / "exported", tmp_path / "third", vision_tower=tmp_path / "tower")
