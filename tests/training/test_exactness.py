"""What a training step computes: independent of how its batch is split, exact on resume, blind to frozen parts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import mminstruct
from mminstruct import formats
from mminstruct.chat_template import IGNORE
from mminstruct.data.dataset import ConversationDataset
from mminstruct.models import checkpoint
from mminstruct.models.parts import freeze
from mminstruct.models.vlm import PARTS
from mminstruct.training import objectives
from mminstruct.training.run import train
from tests.training.conftest import largest_difference, make_recipe, weights


def metrics(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_sft_equals_an_explicit_sum(workspace):
    model, processor = mminstruct.load(workspace / "model")
    data = formats.read(workspace / "data/data.json")
    dataset = ConversationDataset(list(data), workspace / "data", processor, max_length=512)
    batch = processor.collate([dataset[0], dataset[5]], padding_side="right")
    output = objectives.get("sft")(model, batch)
    expected, count = 0.0, 0
    for index in (0, 5):  # one by one, token by token
        sample = dataset[index]
        one = {"input_ids": sample["input_ids"][None], "pixel_values": sample["pixel_values"]}
        logits = model(**one).logits[0]
        for position in range(1, len(sample["input_ids"])):
            label = sample["labels"][position]
            if label != IGNORE:
                expected -= torch.log_softmax(logits[position - 1], dim=-1)[label].item()
                count += 1
    assert int(output.count) == count == int(objectives.get("sft").count(batch))
    assert output.loss_sum.item() == pytest.approx(expected, rel=1e-5)


def test_a_mixtures_balance_counts_once_a_token(workspace, tmp_path):
    """Beside the tokens' loss, in the objective and in the log; without pictures there is nothing to balance."""
    torch.manual_seed(0)
    model, processor = mminstruct.create("nano-text-guided-moe", tiny=True)
    dataset = ConversationDataset(
        list(formats.read(workspace / "data/data.json")), workspace / "data", processor, max_length=512
    )
    batch = processor.collate([dataset[0], dataset[5]], padding_side="right")
    output = objectives.get("sft")(model.train(), batch)
    model.connector.options = model.connector.options.model_copy(update={"balance": 0.0})
    without = objectives.get("sft")(model, batch)
    added = output.metrics["auxiliary_loss_sum"]
    assert added >= 0.01 * output.count  # the balance is 1 at least
    assert (output.loss_sum - without.loss_sum).item() == pytest.approx(added.item(), rel=1e-4)
    assert "auxiliary_loss_sum" not in without.metrics
    train(make_recipe(workspace, [{"steps": 2}], model="nano-text-guided-moe"), tmp_path / "run")
    logged = [line["auxiliary_loss"] for line in metrics(tmp_path / "run") if "auxiliary_loss" in line]
    assert len(logged) == 2 and all(0.01 <= value <= 0.04 for value in logged)  # balance 0.01, four experts


@pytest.mark.parametrize("row", ["nano", "nano-instruct-q-former"])
def test_accumulation_equals_one_batch(workspace, tmp_path, row):
    torch.manual_seed(0)
    checkpoint.save(tmp_path / "model", *mminstruct.create(row, tiny=True))
    for name, batch, accumulate in (("one", 8, 1), ("four", 2, 4)):
        stage = {"batch_size": batch, "accumulate": accumulate, "steps": 4}
        train(make_recipe(workspace, [stage], model=str(tmp_path / "model")), tmp_path / name)
    start, one, four = (weights(p) for p in (tmp_path / "model", tmp_path / "one/model", tmp_path / "four/model"))
    assert largest_difference(start, one) > 1e-3
    assert largest_difference(one, four) < 1e-5
    for a, b in zip(metrics(tmp_path / "one"), metrics(tmp_path / "four"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("group_by_length", [False, True])
def test_resume_is_bit_equal(workspace, tmp_path, group_by_length):
    """N steps = k steps, stop, resume, N - k steps: weights, loss and order of samples, bit for bit."""
    stages = [
        {"steps": 3, "train": ["connector"]},
        {"epochs": 1.5, "accumulate": 1, "group_by_length": group_by_length},  # 9 steps
    ]
    recipe = make_recipe(workspace, stages, save_every=2)
    train(recipe, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    # What a run killed after step 6 of the second stage leaves behind: its checkpoints up to there, longer metrics.
    shutil.rmtree(tmp_path / "cut/model")
    stage = tmp_path / "cut/stages/2-s1"
    kept = sorted(stage.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    assert len(kept) == 2
    shutil.rmtree(kept[-1])
    train(recipe, tmp_path / "cut", resume=True)
    assert largest_difference(weights(tmp_path / "whole/model"), weights(tmp_path / "cut/model")) == 0.0
    keys = ("stage", "step", "loss", "supervised_tokens", "grad_norm", "learning_rate")
    strip = lambda lines: [[line.get(key) for key in keys] for line in lines]  # noqa: E731
    assert strip(metrics(tmp_path / "whole")) == strip(metrics(tmp_path / "cut"))


@pytest.mark.parametrize("parts", [["connector"], ["vision_encoder", "connector"], ["connector", "language_model"]])
def test_what_must_train_changes_and_the_rest_does_not(workspace, tmp_path, parts):
    recipe = make_recipe(workspace, [{"train": parts, "steps": 5}])
    result = train(recipe, tmp_path / "run")
    before, after = weights(workspace / "model"), weights(tmp_path / "run/model")
    for name in before:
        part = name.split(".")[0]
        changed = not torch.equal(before[name], after[name])
        # Five steps: the first has rate zero (warm-up), and residual branches that start at zero hold back the next.
        assert changed == (part in parts), name
    counts = result.trainable["s0"]
    assert [part for part in counts if counts[part]] == [part for part in PARTS if part in parts]


def test_rates_per_part_reach_the_optimiser(workspace, tmp_path):
    """A part with rate zero keeps its values although it takes part."""
    rates = {"vision_encoder": 0.0, "connector": 1e-3, "language_model": 0.0}
    train(make_recipe(workspace, [{"learning_rate": rates, "steps": 2}]), tmp_path / "run")
    before, after = weights(workspace / "model"), weights(tmp_path / "run/model")
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"connector"}


def test_frozen_parts_stay_in_evaluation_mode(workspace):
    model, _ = mminstruct.load(workspace / "model")
    freeze(model, ["connector"])
    model.train()
    assert not model.vision_encoder.training and model.connector.training and not model.language_model.training


def test_bf16_trains(workspace, tmp_path):
    train(make_recipe(workspace, [{"steps": 2}], precision="bf16"), tmp_path / "run")
    lines = metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == [1, 2] and all(line["loss"] > 0 for line in lines)
