"""A LoRA folder of the original LLaVA, its adapter made by peft: imported it computes what peft computes."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

import mminstruct
from mminstruct.errors import MminstructError
from mminstruct.models.interop import import_checkpoint
from tests.models import interop as make

V1 = {"chat_template": "vicuna_v1"}


@pytest.fixture(params=[False, True], ids=["lora", "rslora"])
def folders(request, tmp_path):
    """The model of transformers with the adapter merged by peft, and the four folders' parent."""
    theirs = make.hf_model()
    language_model = LlamaForCausalLM(theirs.config.text_config).eval()
    language_model.model.load_state_dict(theirs.model.language_model.state_dict())
    language_model.lm_head.load_state_dict(theirs.lm_head.state_dict())
    language_model.save_pretrained(tmp_path / "base")
    folder = make.save_llava(theirs, tmp_path / "lora", tower_saved=False)
    make.save_tower(theirs, tmp_path / "tower")
    (folder / make.WEIGHTS).unlink()
    projector = theirs.model.multi_modal_projector
    torch.save(
        {
            f"base_model.model.model.mm_projector.{place}.{name}": tensor
            for place, part in ((0, projector.linear_1), (2, projector.linear_2))
            for name, tensor in part.state_dict().items()
        },
        folder / "non_lora_trainables.bin",
    )
    config = LoraConfig(r=4, lora_alpha=12, target_modules=["q_proj", "v_proj", "down_proj"], use_rslora=request.param)
    adapted = get_peft_model(language_model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.2 * torch.randn_like(parameter))
    text = (folder / "config.json").read_text()
    adapted.save_pretrained(folder)
    (folder / "config.json").write_text(text)
    merged = adapted.merge_and_unload()
    theirs.model.language_model.load_state_dict(merged.model.state_dict())
    return theirs, tmp_path


def test_import_merges(folders):
    theirs, parent = folders
    import_checkpoint(parent / "lora", parent / "ours", vision_tower=parent / "tower", base=parent / "base", **V1)
    make.assert_same(*mminstruct.load(parent / "ours"), theirs)


def refused(parent, match, **options):
    options = {"vision_tower": parent / "tower", "base": parent / "base", **V1, **options}
    with pytest.raises(MminstructError, match=match):
        import_checkpoint(parent / "lora", parent / "ours", **options)
    assert sorted(path.name for path in parent.iterdir()) == ["base", "lora", "tower"]


def test_what_cannot_be_merged(folders):
    _, parent = folders
    refused(parent, "is a LoRA adapter of .*; give a local folder of that language model with --base", base=None)
    config = parent / "lora" / "adapter_config.json"
    before = json.loads(config.read_text())
    for key, value in {"use_dora": True, "bias": "all", "rank_pattern": {"q_proj": 2}}.items():
        config.write_text(json.dumps({**before, key: value}))
        refused(parent, f"{key} is ")
    config.write_text(json.dumps(before))
    name = "model.layers.0.self_attn.q_proj.weight"
    make.change(parent / "base", lambda tensors: {**tensors, name: torch.zeros(2, 2)})
    refused(parent, f"does not fit '{name}'")
    make.change(parent / "base", lambda tensors: {k: v for k, v in tensors.items() if k != name})
    refused(parent, f"has no '{name}'")
    (parent / "lora" / "non_lora_trainables.bin").unlink()
    refused(parent, "holds no non_lora_trainables.bin")
