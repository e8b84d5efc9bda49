"""Liger's kernels come and go; what they compute is compared in test_gpu.py."""

from __future__ import annotations

import pytest
import torch
from transformers.models.llama import modeling_llama

import mminstruct
from mminstruct.errors import ConfigError
from mminstruct.training.kernels import liger, require_liger
from mminstruct.training.run import train
from tests.training.conftest import make_recipe

pytest.importorskip("liger_kernel")  # there is none but for Linux


def test_they_are_in_the_model_within_and_gone_afterwards():
    model, _ = mminstruct.create("nano", tiny=True)
    ids = torch.arange(20, 26)[None]
    before = model(input_ids=ids).logits
    rotary, norm = modeling_llama.apply_rotary_pos_emb, modeling_llama.LlamaRMSNorm
    layer = model.language_model.model.layers[0]
    with liger(model):
        assert modeling_llama.apply_rotary_pos_emb is not rotary
        assert layer.mlp.forward.__func__ is not type(layer.mlp).forward
        assert layer.input_layernorm._get_name() == "LigerRMSNorm"
    assert modeling_llama.apply_rotary_pos_emb is rotary
    assert modeling_llama.LlamaRMSNorm is norm
    assert layer.input_layernorm._get_name() == "LlamaRMSNorm"
    assert torch.equal(model(input_ids=ids).logits, before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_run_does_not_begin(workspace, tmp_path):
    with pytest.raises(ConfigError, match="kernels: liger needs a GPU"):
        train(make_recipe(workspace, [{}], kernels="liger"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_type_without_kernels_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    model, _ = mminstruct.create("nano", tiny=True)
    model.language_model.config.model_type = "opt"
    with pytest.raises(ConfigError, match="no kernels for models of the type opt"):
        require_liger(model)
