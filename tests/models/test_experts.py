"""New experts for pictures: a text is as before, pictures are what a slow loop says, nothing old ever changes."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import mminstruct
from mminstruct.errors import CheckpointError, ConfigError, DataError
from mminstruct.models import checkpoint, routing
from mminstruct.models.config import ExpertExtensionConfig
from mminstruct.models.experts import PLACES, mixtures_of
from mminstruct.models.factory import read_row
from mminstruct.models.interop import export_checkpoint
from mminstruct.models.parts import freeze
from mminstruct.models.vlm import VisionLanguageModel
from tests.conftest import conversation, picture
from tests.models.experts import EXTENSION, FAMILIES, batch_of, build, row, slow_logits


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def extended(family):
    return build(family)


def inputs(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in batch.items() if name != "labels"}


def text_batch(processor) -> dict[str, torch.Tensor]:
    samples = [
        processor.training_sample(conversation(*texts), [])
        for texts in (("what is red?", "a color"), ("is there a triangle or no circle?", "yes"))
    ]
    return processor.collate(samples, padding_side="right")


def tune(model: VisionLanguageModel, batch: dict[str, torch.Tensor], parameters: list, steps: int = 8) -> list[float]:
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.train()(**batch).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses


# ---- what comes out --------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_text_gives_the_bare_language_models_logits(family, dtype):
    """Not only as near as 1e-6 but bit for bit, padding included, against a model that never had a hook."""
    model, processor = build(family)
    model.to(dtype)
    # Made in this precision, as from_pretrained does it: `to` would round the frequencies of positions as well.
    bare = AutoModelForCausalLM.from_config(AutoConfig.for_model(**FAMILIES[family]), dtype=dtype).eval()
    bare.load_state_dict(model.language_model.state_dict())
    batch = inputs(text_batch(processor))
    assert torch.equal(model(**batch).logits, bare(**batch).logits)


@torch.no_grad()
def test_pictures_equal_a_slow_loop(extended):
    """Every token of a sequence with two pictures, among them some that choose old, new and both kinds of experts."""
    model, processor = extended
    batch = batch_of(processor)
    logits = model(**inputs(batch)).logits
    length = int(batch["attention_mask"][0].sum())
    ids = batch["input_ids"][:1, :length]
    embeddings = model.embed(ids, batch["pixel_values"])[0][0]
    expected = slow_logits(model, embeddings, ids[0] == processor.config.image_token_id)
    assert torch.allclose(logits[0, :length], expected, atol=2e-5)
    ignored = slow_logits(model, embeddings, torch.zeros(length, dtype=torch.bool))
    assert (ignored - expected).abs().max() > 1e-2  # the new experts matter


@torch.no_grad()
def test_only_pictures_choose_new_experts(extended):
    """By what each router's hook hands on: pictures mix old and new experts, texts and padding never meet a new one."""
    model, processor = extended
    batch = inputs(batch_of(processor))
    places = (batch["input_ids"] == processor.config.image_token_id).flatten()
    chosen = {}
    handles = [
        mixture.gate.register_forward_hook(lambda _, __, output, index=index: chosen.update({index: output[2] >= 5}))
        for index, mixture in mixtures_of(model.language_model).items()
    ]
    model(**batch)
    for handle in handles:
        handle.remove()
    for index in (0, 1):
        assert 0 < int(chosen[index][places].sum()) < int(places.sum()) * 2
        assert not chosen[index][~places].any()
    assert not chosen[2].any()  # the last layer has none
    assert (chosen[0] | chosen[1]).any(1).sum() > 1
    assert {int(row.sum()) for index in (0, 1) for row in chosen[index][places]} >= {0, 1}


@torch.no_grad()
def test_no_attention_is_handed_the_places(extended):
    """They are taken out of its keywords in every layer: a kernel for attention may not know them."""
    model, processor = extended
    handed = []
    handles = [
        layer.self_attn.register_forward_hook(
            lambda _, __, kwargs, ___: handed.append(PLACES in kwargs), with_kwargs=True
        )
        for layer in model.language_model.model.layers
    ]
    model(**inputs(batch_of(processor)))
    for handle in handles:
        handle.remove()
    assert handed == [False] * 3


@torch.no_grad()
def test_every_implementation_of_experts_agrees(extended):
    model, processor = extended
    batch = inputs(batch_of(processor))
    grouped = model(**batch).logits
    model.language_model.set_experts_implementation("eager")
    assert model.experts.layers["0"].experts.config._experts_implementation == "eager"
    eager = model(**batch).logits
    model.language_model.set_experts_implementation("grouped_mm")
    assert torch.allclose(grouped, eager, atol=1e-5)


@torch.no_grad()
def test_text_beside_pictures_in_a_batch_is_untouched(extended):
    model, processor = extended
    batch = inputs(batch_of(processor))
    row = {name: batch[name][1:] for name in ("input_ids", "attention_mask")}
    assert torch.allclose(model(**batch).logits[1], model(**row).logits[0], atol=1e-5)


@torch.no_grad()
def test_generation_with_the_cache_equals_recomputing(extended):
    """The pictures' places are in the first call only; what is generated is text and meets the old experts alone."""
    model, processor = extended
    sample = processor.prompt(conversation("what is it?", images=2), [picture(3), picture(4)])
    batch = processor.collate([sample])
    generated = model.generate(**batch, max_new_tokens=6, do_sample=False, suppress_tokens=None)
    ids = batch["input_ids"]
    for _ in range(generated.shape[1] - ids.shape[1]):
        logits = model(input_ids=ids, pixel_values=batch["pixel_values"]).logits[:, -1]
        logits[:, processor.config.image_token_id] = -torch.inf
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(generated, ids) and generated.shape[1] > batch["input_ids"].shape[1] + 1


@torch.no_grad()
def test_bfloat16_is_near(family):
    """As near as routers allow: a token on the edge between two experts may take the other one."""
    model, processor = build(family)
    batch = inputs(batch_of(processor))
    exact = model(**batch).logits
    near = model.to(torch.bfloat16)(**batch).logits
    assert near.dtype == torch.bfloat16
    assert torch.cosine_similarity(near.float().flatten(), exact.flatten(), dim=0) > 0.95


def test_router_logits_and_balance(extended):
    """transformers' own load balance stays what it is, that of the old experts, and is finite."""
    model, processor = extended
    batch = batch_of(processor)
    plain = model(**batch)
    output = model(**batch, output_router_logits=True)
    tokens = batch["input_ids"].numel()
    assert [logits.shape for logits in output.router_logits] == [(tokens, 5)] * 3
    assert torch.isfinite(output.aux_loss) and output.aux_loss > 0
    coefficient = model.config.text_config.router_aux_loss_coef
    assert output.loss.item() == pytest.approx((plain.loss + coefficient * output.aux_loss).item(), rel=1e-5)


# ---- what learns -----------------------------------------------------------------------------------------------------


def test_gradients_reach_the_new_parts_and_no_other(extended):
    model, processor = extended
    freeze(model, ["experts"])
    model.zero_grad()
    model.train()(**batch_of(processor)).loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == name.startswith("experts."), name
    model.requires_grad_(True).zero_grad()
    model.eval()


@pytest.mark.parametrize("implementation", ["eager", "grouped_mm"])
def test_a_batch_of_text_gives_every_new_part_a_gradient_of_zeros(family, implementation):
    """Otherwise DDP and ZeRO-3 would wait for a rank that holds text alone; and nothing may be learnt from it."""
    model, processor = build(family)
    model.language_model.set_experts_implementation(implementation)
    batch = text_batch(processor)
    freeze(model, ["connector", "experts"])
    with torch.no_grad():
        before = model(**inputs(batch)).logits
    output = model.train()(**batch)
    assert torch.equal(output.logits, before)
    output.loss.backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.experts.parameters())


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_nothing(family, reentrant):
    """The repeated run sees the same places: equal loss and gradients, and each layer really runs twice."""
    model, processor = build(family)
    batch = batch_of(processor)
    runs = 0

    def count(*_):
        nonlocal runs
        runs += 1

    mixtures_of(model.language_model)[0].register_forward_pre_hook(count)
    found = []
    for on in (False, True):
        if on:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model.zero_grad()
        output = model.train()(**batch, use_cache=False)
        output.loss.backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        found.append((output.loss.detach(), gradients, runs))
    assert [one[2] for one in found] == [1, 3]
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1].keys() == found[1][1].keys()
    for name, gradient in found[0][1].items():
        assert torch.allclose(gradient, found[1][1][name], atol=1e-6), name


def test_nothing_is_kept_between_runs(extended):
    """After a forward, and after a backward that repeats it, a layer holds no token of either."""
    model, processor = extended
    for on in (False, True):
        if on:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()(**batch_of(processor), use_cache=False).loss.backward()
    model.gradient_checkpointing_disable()
    for extension in model.eval().experts.layers.values():
        assert extension._places is None and extension._pairs is None
    model.zero_grad()


def test_text_is_not_forgotten(family):
    """Tuned on pictures, the extension leaves the loss of held-out text as it was; the same experts in place do not."""
    batch, losses = None, {}
    for way in ("extension", "in place"):
        model, processor = build(family, {**EXTENSION, "start": "copy"})
        batch = batch_of(processor)
        with torch.no_grad():
            before = model(**text_batch(processor)).loss
        if way == "extension":
            freeze(model, ["experts"])
            parameters = list(model.experts.parameters())
        else:
            freeze(model, [])
            mixtures = mixtures_of(model.language_model)
            chosen = [mixtures[int(index)] for index in model.experts.layers]
            parameters = [p.requires_grad_() for m in chosen for p in (*m.experts.parameters(), *m.gate.parameters())]
        learnt = tune(model, batch, parameters)
        with torch.no_grad():
            losses[way] = (before, model(**text_batch(processor)).loss)
        assert learnt[-1] < learnt[0] - 0.05, (way, learnt)
    assert torch.equal(*losses["extension"])
    assert (losses["in place"][0] - losses["in place"][1]).abs() > 1e-2


# ---- how it begins ---------------------------------------------------------------------------------------------------


def test_copies_begin_as_old_experts(family):
    model, _ = build(family, {**EXTENSION, "start": "copy"})
    mixtures = mixtures_of(model.language_model)
    for index, extension in model.experts.layers.items():
        old = mixtures[int(index)]
        assert torch.equal(extension.router.weight, old.gate.weight[:2])
        assert torch.equal(extension.experts.gate_up_proj, old.experts.gate_up_proj[:2])
        assert torch.equal(extension.experts.down_proj, old.experts.down_proj[:2])
    model.experts.start(model.language_model, {0: [3, 1], 1: [4, 0]})
    for index, chosen in ((0, [3, 1]), (1, [4, 0])):
        extension, old = model.experts.layers[str(index)], mixtures[index]
        assert torch.equal(extension.router.weight, old.gate.weight[chosen])
        assert torch.equal(extension.experts.down_proj, old.experts.down_proj[chosen])


def test_copies_are_of_the_weights_that_are_fetched(family, tmp_path):
    """Not of the random ones that the language model had before them."""
    torch.manual_seed(5)
    bare = AutoModelForCausalLM.from_config(AutoConfig.for_model(**FAMILIES[family]))
    bare.save_pretrained(tmp_path / "bare")
    content = row(family, {"layers": [1], "experts": 2})
    content["language_model"] |= {"name": str(tmp_path / "bare"), "weights": True}
    model, processor = mminstruct.create(content, pretrained=True)
    begun, fetched = model.experts.layers["1"].experts.down_proj, mixtures_of(bare)[1].experts.down_proj
    assert torch.equal(begun, fetched[:2])
    assert processor.config.origins["experts"] == "copies of the language model's experts"


@torch.no_grad()
def test_the_experts_that_pictures_use_are_counted(extended):
    """By hand: what each old router prefers for each place of a picture, in two batches, extension or not."""
    model, processor = extended
    batches = [batch_of(processor, seed=seed) for seed in (1, 7)]
    expected = {index: torch.zeros(5, dtype=torch.int64) for index in range(3)}
    for batch in batches:
        output = model(**inputs(batch), output_router_logits=True)
        places = (batch["input_ids"] == processor.config.image_token_id).flatten()
        for index, logits in enumerate(output.router_logits):
            for token in logits[places].tolist():
                for expert in sorted(range(5), key=lambda e: -token[e])[:2]:
                    expected[index][expert] += 1
    model.train()
    usage = routing.picture_routing(model, batches)
    assert model.training and not model.eval().training
    assert usage.keys() == expected.keys()
    assert all(torch.equal(usage[index], expected[index]) for index in usage)
    assert int(usage[0].sum()) == 2 * 2 * 2 * 4  # experts a token, batches, pictures, places of one
    with pytest.raises(DataError, match="no picture went through"):
        routing.picture_routing(model, [text_batch(processor)])


def test_most_used_experts_come_first():
    usage = {0: torch.tensor([3, 9, 0, 9]), 4: torch.tensor([1, 0, 7, 2])}
    assert routing.most_used(usage, 2) == {0: [1, 3], 4: [2, 3]}


@pytest.mark.parametrize(
    ("layers", "expected"), [("all", ["0", "1"]), ({"every": 2}, ["1"]), ([0], ["0"]), ([1, 0], ["0", "1"])]
)
def test_layers_are_chosen(layers, expected):
    model, _ = build("mixtral", {**EXTENSION, "layers": layers})
    assert list(model.experts.layers) == expected


@pytest.mark.parametrize(
    ("family_name", "extension", "architecture", "message"),
    [
        ("mixtral", {"layers": [2]}, {}, r"those that can are 0, 1 \(mixtures, without the last layer\)"),
        ("mixtral", {"layers": [-1]}, {}, "those that can are 0, 1"),
        ("mixtral", {"layers": {"every": 3}}, {}, "or none; those that can are 0, 1"),
        ("mixtral", {"layers": []}, {}, "or none; those that can are 0, 1"),
        ("qwen3_moe", {"layers": [0]}, {"mlp_only_layers": [0]}, "those that can are 1"),
        ("mixtral", {"experts": 6}, {}, "6 new experts cannot begin as copies of 5"),
        ("mixtral", {"layers": "some"}, {}, "expert_extension.layers"),
        ("mixtral", {"layer": "all"}, {}, "unknown key 'expert_extension.layer'. Did you mean 'layers'"),
    ],
)
def test_what_cannot_be_extended_is_refused(family_name, extension, architecture, message):
    with pytest.raises(ConfigError, match=message):
        mminstruct.create(row(family_name, extension, **architecture))


def test_a_language_model_without_mixtures_is_refused():
    nano = read_row("nano")[0].model_dump(mode="json")
    with pytest.raises(ConfigError, match="no mixture layers of the kinds Mixtral, Qwen2Moe, Qwen3Moe"):
        mminstruct.create({**nano, "expert_extension": {}})


def test_layers_that_are_no_mixture_are_passed_over():
    model, processor = build("qwen2_moe", mlp_only_layers=[0])
    assert list(model.experts.layers) == ["1"]
    assert torch.isfinite(model(**batch_of(processor)).loss)


def test_places_must_be_as_many_as_tokens(extended):
    model, _ = extended
    with pytest.raises(DataError, match=r"names \[1, 3\] places, but the language model reads 5 tokens"):
        model(inputs_embeds=torch.zeros(1, 5, 32), **{PLACES: torch.zeros(1, 3, dtype=torch.bool)})


def test_a_model_is_extended_once(family):
    model, processor = build(family, None)
    assert "experts" not in model.parts
    with pytest.raises(ConfigError, match="no part called 'experts', only vision_encoder, connector, language_model"):
        model.part("experts")
    model.to(torch.bfloat16).extend(ExpertExtensionConfig(experts=1))
    begun, old = model.experts.layers["0"].router.weight, mixtures_of(model.language_model)[0].gate.weight
    assert begun.dtype == torch.bfloat16 and torch.equal(begun, old[:1])
    assert model.config.expert_extension == {"layers": "all", "experts": 1, "start": "copy", "calibration": 0}
    assert torch.isfinite(model(**batch_of(processor)).loss)
    with pytest.raises(ConfigError, match="has new experts already"):
        model.extend(ExpertExtensionConfig())


# ---- on disk ---------------------------------------------------------------------------------------------------------


def test_a_checkpoint_holds_the_extension(extended, tmp_path):
    """Ours and transformers' own loader; a mixture keeps the names that its modules have."""
    model, processor = extended
    checkpoint.save(tmp_path / "model", model, processor)
    batch = inputs(batch_of(processor))
    with torch.no_grad():
        expected = model(**batch).logits
        again, _ = mminstruct.load(tmp_path / "model")
        assert torch.equal(again(**batch).logits, expected)
        assert again.experts.config == model.experts.config
        theirs, report = VisionLanguageModel.from_pretrained(tmp_path / "model", output_loading_info=True)
        assert not any(report.values())
        assert torch.equal(theirs.eval()(**batch).logits, expected)
    with pytest.raises(CheckpointError, match="has new experts for pictures"):
        export_checkpoint(tmp_path / "model", tmp_path / "out", "hf-llava")


@torch.no_grad()
def test_a_copy_uses_its_own_new_experts(family):
    model, processor = build(family)
    again = copy.deepcopy(model)
    batch = inputs(batch_of(processor))
    expected = model.eval()(**batch).logits
    for parameter in model.experts.parameters():
        parameter.zero_()
    assert torch.equal(again.eval()(**batch).logits, expected)
    assert not torch.equal(model(**batch).logits, expected)
