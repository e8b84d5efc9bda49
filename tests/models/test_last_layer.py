"""The last feed-forward at the places that are read: the same loss and gradients, fewer places computed."""

from __future__ import annotations

import pytest
import torch

import mminstruct
from mminstruct.models.factory import read_row
from mminstruct.models.last_layer import last_layer_where_read
from mminstruct.models.packing import packed
from mminstruct.models.parts import freeze
from mminstruct.models.vlm import PARTS
from mminstruct.training import objectives
from mminstruct.training.activation_checkpointing import activation_checkpointing
from tests.models import experts, native
from tests.training.test_activation_checkpointing import batch_of, step

SHAPE = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
}
LANGUAGE_MODELS = {
    "llama": {"num_key_value_heads": 2},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    "gpt_neox": {},  # attention and feed-forward side by side
    "gemma2": {"num_key_value_heads": 2, "head_dim": 8},  # a norm behind the feed-forward; not in rows
    "phi": {},
}


def build(language_model: str):
    torch.manual_seed(0)
    row = read_row("nano")[0].model_dump(mode="json")
    row["language_model"] = {"architecture": {"model_type": language_model, **SHAPE, **LANGUAGE_MODELS[language_model]}}
    model, processor = mminstruct.create(row)
    freeze(model, PARTS[:3])
    return model.train(), processor


def places_seen(module: torch.nn.Module) -> list[int]:
    """How many places each coming call of a feed-forward sees, in a list that grows."""
    found: list[int] = []
    linear = next(part for part in module.modules() if isinstance(part, torch.nn.Linear))
    linear.register_forward_hook(lambda _, arguments, __: found.append(arguments[0].shape[1]))
    return found


@pytest.mark.parametrize("checkpointed", [False, True], ids=["kept", "computed again"])
@pytest.mark.parametrize("language_model", LANGUAGE_MODELS)
def test_loss_and_gradients_are_the_same(language_model, checkpointed):
    model, processor = build(language_model)
    batch = batch_of(model, processor)
    places = int((batch["labels"][:, 1:] != -100).any(0).sum())
    first, *_, last = (module for name, module in model.language_model.named_modules() if name.endswith(".mlp"))
    seen = {"first": places_seen(first), "last": places_seen(last)}
    with activation_checkpointing(model, ["language_model"] if checkpointed else []):
        loss, expected, _ = step(model, batch)
        with last_layer_where_read(model):
            again, found, _ = step(model, batch)
    calls = 2 if checkpointed else 1
    whole = batch["input_ids"].shape[1]
    assert seen == {"first": [whole] * 2 * calls, "last": [whole] * calls + [places] * calls}
    assert places < whole
    assert again == pytest.approx(loss, rel=1e-6)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_a_batch_without_labels_reaches_every_parameter():
    model, processor = build("llama")
    batch = batch_of(model, processor)
    batch["labels"] = torch.full_like(batch["labels"], -100)
    with packed(model), last_layer_where_read(model):
        objectives.get("sft")(model, batch).loss_sum.backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


def test_nothing_is_left_behind():
    model, processor = build("llama")
    batch = batch_of(model, processor)
    loss, _, _ = step(model, batch)
    last = model.language_model.model.layers[-1].mlp
    with pytest.raises(RuntimeError, match="stopped"), last_layer_where_read(model):
        raise RuntimeError("stopped")
    seen = places_seen(last)
    assert step(model, batch)[0] == loss
    assert seen == [batch["input_ids"].shape[1]]


@pytest.mark.parametrize(
    "build_model", [lambda: experts.build("mixtral"), lambda: native.lively(next(iter(native.FAMILIES)))]
)
def test_mixtures_and_native_models_are_left_alone(build_model):
    model, _ = build_model()
    hooks = [len(module._forward_pre_hooks) for module in model.modules()]
    with last_layer_where_read(model):
        assert [len(module._forward_pre_hooks) for module in model.modules()] == hooks
