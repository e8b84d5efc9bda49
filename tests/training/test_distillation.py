"""Distillation: an explicit sum over places and vocabulary, however a step is split."""

from __future__ import annotations

import pytest
import torch

import mminstruct
from mminstruct import formats
from mminstruct.config import validate
from mminstruct.data.dataset import ConversationDataset
from mminstruct.errors import CheckpointError, ConfigError
from mminstruct.models import checkpoint
from mminstruct.models.packing import packed
from mminstruct.training import objectives
from mminstruct.training.config import StageConfig
from mminstruct.training.run import train
from mminstruct.training.stage_run import training_arguments
from tests.training.conftest import largest_difference, make_recipe, weights
from tests.training.test_exactness import metrics


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "model"
    torch.manual_seed(1)
    checkpoint.save(folder, *mminstruct.create("nano", tiny=True))
    return folder


def started(workspace, tmp_path, model, processor, **options):
    recipe = make_recipe(workspace, [{}])
    objective = objectives.get("distill", **options)
    objective.start(model, processor, [], training_arguments(recipe, recipe.stages[0], tmp_path))
    return objective


@pytest.mark.parametrize("pack", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 0.0), (2.0, 0.5)])
def test_the_loss_is_an_explicit_sum(workspace, teacher, tmp_path, pack, temperature, weight):
    model, processor = mminstruct.load(workspace / "model")
    data = list(formats.read(workspace / "data/data.json"))
    dataset = ConversationDataset(data, workspace / "data", processor, max_length=512)
    options = {"teacher": str(teacher), "temperature": temperature, "cross_entropy": weight}
    objective = started(workspace, tmp_path, model, processor, **options)
    samples = [dataset[0], dataset[5]]
    with packed(model):
        output = objective(model, processor.pack(samples) if pack else processor.collate(samples, "right"))
    wise, _ = mminstruct.load(teacher)
    expected, count = torch.zeros(()), 0
    for sample in samples:  # one by one, place by place, token by token
        inputs = {"input_ids": sample["input_ids"][None], "pixel_values": sample["pixel_values"]}
        logits, wanted = (one(**inputs).logits[0].detach() for one in (model, wise))
        for position in range(1, len(sample["input_ids"])):
            label = int(sample["labels"][position])
            if label == -100:
                continue
            p, q = ((one[position - 1] / temperature).softmax(-1) for one in (wanted, logits))
            expected += temperature**2 * sum(a * (a.log() - b.log()) for a, b in zip(p, q, strict=True))
            expected -= weight * logits[position - 1].log_softmax(-1)[label]
            count += 1
    assert int(output.count) == count == int(objective.count(processor.collate(samples, "right")))
    assert output.loss_sum.item() == pytest.approx(expected.item(), rel=1e-4)
    assert output.loss_sum.item() == pytest.approx(
        (output.metrics["divergence_sum"] + weight * output.metrics["cross_entropy_sum"]).item(), rel=1e-5
    )


def test_a_teacher_of_its_own_teaches_nothing(workspace, tmp_path):
    model, processor = mminstruct.load(workspace / "model")
    data = list(formats.read(workspace / "data/data.json"))
    dataset = ConversationDataset(data, workspace / "data", processor, max_length=512)
    objective = started(workspace, tmp_path, model, processor, teacher=str(workspace / "model"))
    output = objective(model, processor.collate([dataset[0]], "right"))
    output.loss_sum.backward()
    assert abs(output.loss_sum.item()) < 1e-5 and output.metrics["teacher_agreement_sum"] == output.count
    assert max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None) < 1e-5


def test_accumulation_equals_one_batch_and_the_student_comes_nearer(workspace, teacher, tmp_path):
    objective = {"kind": "distill", "teacher": str(teacher), "cross_entropy": 0.1}
    for name, batch, accumulate in (("one", 8, 1), ("four", 2, 4)):
        stage = {"objective": objective, "batch_size": batch, "accumulate": accumulate, "steps": 6}
        train(make_recipe(workspace, [stage]), tmp_path / name)
    one, four = (weights(tmp_path / name / "model") for name in ("one", "four"))
    assert largest_difference(one, four) < 1e-5 < largest_difference(one, weights(workspace / "model"))
    lines = metrics(tmp_path / "one")
    assert lines[-1]["divergence"] < lines[0]["divergence"]
    assert {"cross_entropy", "teacher_agreement", "token_accuracy", "supervised_tokens"} <= lines[0].keys()


def test_a_teacher_that_does_not_fit_is_named(workspace, tmp_path):
    model, processor = mminstruct.load(workspace / "model")
    with pytest.raises(CheckpointError, match="is not a folder"):
        started(workspace, tmp_path, model, processor, teacher=str(tmp_path / "none"))
    other, own = mminstruct.create("nano", tiny=True)
    own.tokenizer.add_tokens(["<new>"])
    checkpoint.save(tmp_path / "other", other, own)
    with pytest.raises(ConfigError, match=r"objective\.teacher: the model in .* has another tokenizer"):
        started(workspace, tmp_path, model, processor, teacher=str(tmp_path / "other"))
    stage = {"name": "s", "train": ["connector"], "learning_rate": 1e-3, "objective": "distill"}
    with pytest.raises(ConfigError, match=r"objective\.teacher"):
        validate(StageConfig, stage, where="test")
