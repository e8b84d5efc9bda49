"""Stages with adapters: what changes and what does not, resume, how a step is split, what is written and printed."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

import mminstruct
from mminstruct import formats
from mminstruct.config import dump_yaml, validate
from mminstruct.data.dataset import ConversationDataset
from mminstruct.errors import ConfigError
from mminstruct.models.adapters import Mask, MaskConfig, attach
from mminstruct.models.adapters.folder import merge_folder
from mminstruct.models.adapters.mask import drop_gradient, read_packed, unpack
from mminstruct.models.adapters.targets import linear_modules, maskable_weights
from mminstruct.training import objectives
from mminstruct.training.config import StageConfig
from mminstruct.training.mask_tuning import GradientDropout, choose_weights
from mminstruct.training.run import train
from tests.command import call
from tests.training.conftest import largest_difference, make_recipe, weights
from tests.training.test_exactness import metrics

LORA = {"kind": "lora", "part": "language_model", "rank": 4, "alpha": 8, "learning_rate": 1e-2}
MASK = {"kind": "mask", "part": "vision_encoder", "share": 0.5, "importance_batches": 2, "learning_rate": 3e-3}


def batches(workspace, count: int, size: int):
    model, processor = mminstruct.load(workspace / "model")
    data = list(formats.read(workspace / "data/data.json"))
    dataset = ConversationDataset(data, workspace / "data", processor, max_length=512)
    groups = [[dataset[i * size + j] for j in range(size)] for i in range(count)]
    return model, processor, [processor.collate(group, padding_side="right") for group in groups]


@pytest.mark.parametrize(
    ("settings", "precision"), [({}, "bf16"), ({"dora": True, "dropout": 0.1}, "fp32"), ({"bits": 4}, "bf16")]
)
def test_lora_changes_its_linear_layers_and_nothing_else(workspace, tmp_path, settings, precision):
    """In bf16 too the merge is compared in float32, or rounding would be all that is seen."""
    stage = {"train": ["connector"], "adapters": [{**LORA, **settings}], "steps": 5}
    train(make_recipe(workspace, [stage], precision=precision), tmp_path / "run")
    before, after = weights(workspace / "model"), weights(tmp_path / "run/model")
    model, _ = mminstruct.load(workspace / "model")
    adapted = {f"language_model.{name}.weight" for name in linear_modules(model, "language_model")}
    for name in before:
        expected = name in adapted or name.startswith("connector.")
        assert torch.equal(before[name], after[name]) != expected, name
    merge_folder(tmp_path / "run/adapter", workspace / "model", tmp_path / "again")
    assert largest_difference(weights(tmp_path / "again"), after) == 0.0


def test_masked_weights_are_their_own_or_zero(workspace, tmp_path):
    train(make_recipe(workspace, [{"train": [], "adapters": [MASK], "steps": 8}]), tmp_path / "run")
    before, after = weights(workspace / "model"), weights(tmp_path / "run/model")
    masks = read_packed(tmp_path / "run/adapter/vision_encoder")
    zeros = 0
    for name in before:
        bits = masks.get(name.removeprefix("vision_encoder."))
        if bits is None:
            assert torch.equal(before[name], after[name]), name
            continue
        kept = unpack(bits, before[name].shape, name)
        assert torch.equal(after[name], torch.where(kept, before[name], 0.0))
        zeros += int((~kept).sum())
    carrying = sum(before[f"vision_encoder.{name}"].numel() for name in masks)
    assert 0 < zeros < carrying
    model, _ = mminstruct.load(workspace / "model")
    all_of_them = sum(getattr(m, a).numel() for m, a in maskable_weights(model, "vision_encoder").values())
    assert 0.3 * all_of_them < carrying <= 0.5 * all_of_them


def test_two_stages_on_one_part_and_each_is_mergeable(workspace, tmp_path):
    stages = [
        {"train": ["connector"], "adapters": [LORA], "steps": 2},
        {"train": [], "adapters": [{**LORA, "rank": 2}, MASK], "steps": 2},
    ]
    run = tmp_path / "run"
    result = train(make_recipe(workspace, stages), run)
    merge_folder(run / "stages/1-s0/adapter", workspace / "model", tmp_path / "one")
    assert largest_difference(weights(tmp_path / "one"), weights(run / "stages/1-s0/model")) == 0.0
    merge_folder(run / "adapter", tmp_path / "one", tmp_path / "two")
    assert largest_difference(weights(tmp_path / "two"), weights(run / "model")) == 0.0
    assert largest_difference(weights(tmp_path / "one"), weights(run / "model")) > 1e-4
    table = json.loads((run / "trainable.json").read_text())
    assert [[row["kind"] for row in rows] for rows in table.values()] == [
        ["frozen", "whole", "lora"],
        ["mask", "frozen", "lora"],
    ]
    model, _ = mminstruct.load(workspace / "model")
    layers = linear_modules(model, "language_model").values()
    for name, rank in (("s0", 4), ("s1", 2)):
        row = table[name][2]
        count = sum(rank * (layer.in_features + layer.out_features) for layer in layers)
        assert row["trainable"] == count == result.trainable[name]["language_model"]
        assert row["total"] == model.parameter_counts()["language_model"]
        assert row["share"] == pytest.approx(count / row["total"], abs=1e-6)
        assert row["modules"]["model.layers.*.self_attn.q_proj"] == 2 and sum(row["modules"].values()) == 14


ADAPTED = {
    "dora and masks": [{**LORA, "dora": True, "dropout": 0.2}, MASK],
    "4 bits": [{**LORA, "bits": 4}],
}


@pytest.mark.parametrize(
    ("kind", "left"), [("dora and masks", "a checkpoint"), ("dora and masks", "nothing"), ("4 bits", "a checkpoint")]
)
def test_resume_is_bit_equal(workspace, tmp_path, kind, left):
    """A run killed in its second stage, behind or before the stage's first checkpoint."""
    stages = [
        {"train": [], "adapters": ADAPTED[kind], "steps": 2},
        {"train": ["connector"], "adapters": ADAPTED[kind], "steps": 4},
    ]
    recipe = make_recipe(workspace, stages, save_every=2)
    train(recipe, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut/model")  # the adapter folder stays, as of a run killed between the two
    kept = sorted((tmp_path / "cut/stages/2-s1").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for path in kept if left == "nothing" else kept[-1:]:
        shutil.rmtree(path)
    train(recipe, tmp_path / "cut", resume=True)
    assert largest_difference(weights(tmp_path / "whole/model"), weights(tmp_path / "cut/model")) == 0.0
    keys = ("stage", "step", "loss", "supervised_tokens", "grad_norm", "learning_rate")
    strip = lambda lines: [[line.get(key) for key in keys] for line in lines]  # noqa: E731
    assert strip(metrics(tmp_path / "whole")) == strip(metrics(tmp_path / "cut"))
    for path in (tmp_path / "whole/adapter").rglob("*.*"):
        assert (tmp_path / "cut" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()


def test_a_whole_stage_behind_masks_resumes_bit_equal(workspace, tmp_path):
    """Merged weights stand in the order of a model from disk, or the optimiser's saved state would be mixed up."""
    stages = [
        {"train": [], "adapters": [{**MASK, "part": "connector", "share": 1.0}], "steps": 2},
        {"train": ["connector"], "steps": 4},
    ]
    recipe = make_recipe(workspace, stages, save_every=2)
    train(recipe, tmp_path / "run")
    whole = weights(tmp_path / "run/model")
    shutil.rmtree(tmp_path / "run/model")
    shutil.rmtree(tmp_path / "run/stages/2-s1/checkpoint-4")
    train(recipe, tmp_path / "run", resume=True)
    assert largest_difference(whole, weights(tmp_path / "run/model")) == 0.0


def test_gradient_dropout_does_not_depend_on_how_a_step_is_split(workspace, tmp_path, monkeypatch):
    """The scores' gradients of the first two steps, as the optimiser gets them, before they are clipped."""
    from mminstruct.training.trainer import VisionLanguageTrainer

    seen: list[torch.Tensor] = []
    clip = VisionLanguageTrainer._clip_grad_norm

    def look(self, model):
        scores = next(one for one in self.adapters if isinstance(one, Mask)).parameters()
        seen.append(torch.cat([score.grad.flatten().clone() for score in scores]))
        return clip(self, model)

    monkeypatch.setattr(VisionLanguageTrainer, "_clip_grad_norm", look)
    for name, batch, accumulate, strength in (("one", 8, 1, 1.0), ("four", 2, 4, 1.0), ("none", 8, 1, 0.0)):
        masks = {**MASK, "share": 1.0, "start": 0.0051, "gradient_dropout": strength}
        stage = {"train": ["connector"], "adapters": [masks, LORA], "batch_size": batch, "accumulate": accumulate}
        train(make_recipe(workspace, [{**stage, "steps": 2, "warmup": 0.0}]), tmp_path / name)
    one, four, none = seen[:2], seen[2:4], seen[4:]
    learning = none[1] != 0
    assert torch.isclose(one[1], four[1], rtol=1e-2, atol=1e-6)[learning].float().mean() > 0.99
    dropped = [(gradients[1] == 0) & learning for gradients in (one, four)]
    assert int((dropped[0] & dropped[1]).sum()) > 0.9 * int((dropped[0] | dropped[1]).sum()) > 50
    # In the first step no mask is out yet, and the answers are the untuned model's: nothing but rounding is dropped.
    assert int(((one[0] == 0) & (none[0] != 0)).sum()) < 10


def test_gradient_dropout_of_a_step_by_hand(workspace):
    """Two micro-batches against gradients of the whole step, the general one summed token by token."""
    model, _, parts = batches(workspace, 2, 3)
    settings = validate(MaskConfig, {**MASK, "gradient_dropout": 0.7}, "test")
    mask = attach(model, settings)
    with torch.no_grad():
        for score in mask.parameters():
            score.add_(0.01 * torch.randn_like(score) - 0.005)
    sft, total = objectives.get("sft"), sum(int((part["labels"][:, 1:] != -100).sum()) for part in parts)
    task, general = 0.0, 0.0
    for part in parts:
        output = sft(model, part)
        task = task + output.loss_sum / total
        with mask.off(), torch.no_grad():
            untuned = sft(model, part).logits
        for student, teacher in zip(output.logits.log_softmax(-1), untuned.softmax(-1), strict=True):
            general = general - (teacher * student).sum() / total
    task_gradient = torch.autograd.grad(task, mask.parameters(), retain_graph=True)
    general_gradient = torch.autograd.grad(general, mask.parameters())
    # One process that sees both micro-batches, and two that see one each and sum their general gradients.
    alone, first, second = (GradientDropout([mask], seed=4) for _ in range(3))
    for step, watching in ((6, [alone, alone]), (7, [alone, alone]), (7, [first, second])):
        model.zero_grad()
        for part, dropout in zip(parts, watching, strict=True):
            output = sft(model, part)
            dropout.watch(model, sft, part, output.logits, torch.tensor(total))
            (output.loss_sum / total).backward()
        others = iter([] if watching[0] is alone else second._general)
        watching[0].apply(step, lambda value, others=others: value + next(others, 0.0))
        for index, score in enumerate(mask.parameters()):
            generator = torch.Generator().manual_seed((4 * 1_000_003 + step) * 10_007 + index)
            expected = drop_gradient(task_gradient[index], general_gradient[index], 0.7, generator)
            agree = torch.isclose(score.grad, expected, rtol=1e-3, atol=1e-7).float().mean()
            assert agree > 0.99  # but where a draw falls on the rounding of a probability
        dropped = [score.grad != task for score, task in zip(mask.parameters(), task_gradient, strict=True)]
        assert 0.005 < torch.cat([one.flatten() for one in dropped]).float().mean() < 0.5


def test_important_weights_by_hand(workspace):
    """The mean size of the summed gradient of every weight, taken by backward on a model that learns everywhere."""
    model, _, parts = batches(workspace, 3, 2)
    sft = objectives.get("sft")
    plain, _ = mminstruct.load(workspace / "model")
    plain.requires_grad_(True)
    for part in parts:
        output = sft(plain, part)
        (output.loss_sum / output.count).backward()
    named = maskable_weights(plain, "vision_encoder")
    size = {name: float(getattr(m, a).grad.abs().mean()) for name, (m, a) in named.items()}
    numbers = {name: getattr(m, a).numel() for name, (m, a) in named.items()}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    settings = validate(MaskConfig, {**MASK, "share": 0.4}, "test")
    silent = {**parts[0], "labels": torch.full_like(parts[0]["labels"], -100)}  # the last one does not stand for all
    chosen = choose_weights(model, settings, sft, [*parts, silent])
    left, expected = 0.4 * sum(numbers.values()), set()
    for name in sorted(size, key=size.__getitem__, reverse=True):
        if numbers[name] <= left:
            expected.add(name)
            left -= numbers[name]
    assert set(chosen) == expected and 0 < len(chosen) < len(named)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_rates_and_decay_reach_the_optimiser(workspace, tmp_path, monkeypatch):
    """A mask with rate near zero keeps all its bits beside LoRA that learns; decay never touches scores."""
    from mminstruct.training.trainer import VisionLanguageTrainer

    seen = {}
    made = VisionLanguageTrainer.create_optimizer

    def create(self, *args, **kwargs):
        optimizer = made(self, *args, **kwargs)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                seen[id(parameter)] = group["initial_lr"] if "initial_lr" in group else group["lr"]
        seen["decay"] = [
            (len(group["params"]), group["weight_decay"], group["params"][0].ndim) for group in optimizer.param_groups
        ]
        seen["adapters"] = [{seen[id(parameter)] for parameter in one.parameters()} for one in self.adapters]
        return optimizer

    monkeypatch.setattr(VisionLanguageTrainer, "create_optimizer", create)
    stage = {
        "train": ["connector"],
        "adapters": [{**LORA, "dora": True, "learning_rate": None}, {**MASK, "learning_rate": 1e-9}],
        "learning_rate": 5e-3,
        "weight_decay": 0.1,
        "steps": 1,
    }
    train(make_recipe(workspace, [stage]), tmp_path / "run")
    assert seen["adapters"] == [{5e-3}, {1e-9}]
    # The connector's matrix and bias, LoRA's matrices and DoRA's lengths, and the scores.
    matrix, bias, lora, lengths, scores = seen["decay"]
    assert [matrix[1:], bias[1:], lora[1:], lengths[1:], scores[1]] == [(0.1, 2), (0.0, 1), (0.1, 2), (0.0, 1), 0.0]
    assert (lora[0], lengths[0]) == (28, 14)
    before, after = weights(workspace / "model"), weights(tmp_path / "run/model")
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("vision_encoder"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adapters": [{**LORA, "part": "connector"}]}, "the connector stands under train, so it learns whole"),
        ({"adapters": [LORA, LORA]}, "the language_model has two adapters"),
        ({"adapters": [{**LORA, "part": "languagemodel"}]}, "no part is called 'languagemodel'. Did you mean"),
        ({"adapters": [{**LORA, "kind": "lore"}]}, "'lore' is none of 'lora', 'mask'"),
        ({"adapters": [{**LORA, "rnk": 4}]}, "unknown key 'adapters.0.rnk'"),
        ({"train": []}, "nothing would train; name at least one part under train, or an adapter"),
        (
            {"adapters": [{**LORA, "learning_rate": None}], "learning_rate": {"connector": 1e-3}},
            "give the adapter of the language_model a learning_rate of its own",
        ),
    ],
)
def test_a_stage_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(ConfigError) as error:
        validate(StageConfig, {"name": "s", "train": ["connector"], "learning_rate": 1e-3, **change}, where="test")
    assert message in str(error.value)


def test_adapters_under_deepspeed_that_cannot_work_are_refused(workspace, tmp_path):
    stage = {"train": [], "adapters": [MASK], "steps": 1}
    with pytest.raises(ConfigError, match="masks cannot have a gradient_dropout with it; set gradient_dropout: 0"):
        train(make_recipe(workspace, [stage], deepspeed="zero2"), tmp_path / "run")
    stage = {"train": [], "adapters": [LORA], "steps": 1}
    with pytest.raises(ConfigError, match=r"under ZeRO-3 .* use deepspeed=zero2"):
        train(make_recipe(workspace, [stage], deepspeed="zero3"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command_prints_the_table_and_merges(workspace, tmp_path):
    stage = {"train": ["connector"], "adapters": [LORA], "steps": 2}
    (tmp_path / "recipe.yaml").write_text(dump_yaml(make_recipe(workspace, [stage])))
    code, out, error = call("train", tmp_path / "recipe.yaml", "--out", tmp_path / "run")
    assert code == 0, error
    assert "language_model 4,352" in out
    code, out, error = call(
        "zoo", "merge", tmp_path / "run/adapter", "--base", workspace / "model", "--out", tmp_path / "merged"
    )
    assert code == 0 and out.endswith(f"saved: {tmp_path / 'merged'}\n"), error
    assert largest_difference(weights(tmp_path / "merged"), weights(tmp_path / "run/model")) == 0.0
    code, _, error = call(
        "zoo", "merge", tmp_path / "run/adapter", "--base", tmp_path / "merged", "--out", tmp_path / "twice"
    )
    assert code == 2 and "is not the base of" in error and not (tmp_path / "twice").exists()


def test_the_table_is_logged(workspace, tmp_path, caplog):
    with caplog.at_level("INFO", logger="mminstruct"):
        train(make_recipe(workspace, [{"train": [], "adapters": [{**LORA, "bits": 4}], "steps": 1}]), tmp_path / "run")
    (text,) = [record.getMessage() for record in caplog.records if "trains:" in record.getMessage()]
    assert "lora on 4 bits" in text and "4,352" in text and "2 x model.layers.*.self_attn.q_proj" in text
