"""Steps that a guard leaves out: which ones, that they leave no trace, and that a resumed run leaves out the same."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

import mminstruct
from mminstruct import catalog, formats
from mminstruct.data.dataset import ConversationDataset
from mminstruct.errors import ConfigError, RunError
from mminstruct.files import read_json
from mminstruct.models.packing import packed
from mminstruct.training import objectives
from mminstruct.training.batching import batching
from mminstruct.training.config import StageConfig
from mminstruct.training.preparing import require_launch
from mminstruct.training.run import train
from tests.training.conftest import largest_difference, make_recipe, weights
from tests.training.test_exactness import metrics

STAGE = {"epochs": 6, "batch_size": 2, "learning_rate": 5e-3, "warmup": 0.0}


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory) -> Path:
    """Fifteen conversations that are one, and one of other words."""
    folder = tmp_path_factory.mktemp("poisoned")
    items = []
    for number in range(16):
        answer = "no of yes blue image there what a" if number == 7 else "red circle"
        turns = [{"from": "human", "value": "what is there"}, {"from": "gpt", "value": answer}]
        items.append({"id": str(number), "conversations": turns})
    (folder / "data.json").write_text(json.dumps(items))
    return folder / "data.json"


def by_hand(workspace, data: Path, stage: StageConfig, left_out: set[int]) -> dict[str, torch.Tensor]:
    """A plain loop over the stage's plan, without the updates of some steps."""
    model, processor = mminstruct.load(workspace / "model")
    dataset = ConversationDataset(list(formats.read(data)), data.parent, processor, max_length=512)
    arranged = batching(stage, model, dataset, seed=0, processes=1)
    groups = [[p for p in model.parameters() if (p.ndim > 1) == decayed] for decayed in (True, False)]
    optimizer = torch.optim.AdamW([{"params": one} for one in groups], lr=stage.rate("connector"), weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, 0, arranged.plan.steps)
    with packed(model.train()):
        for step, batch in enumerate(arranged.plan.batches(0), start=1):
            inputs = arranged.batches[batch]
            del inputs["conversations"]
            output = objectives.get("sft")(model, inputs)
            (output.loss_sum / output.count).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), stage.max_grad_norm)
            if step not in left_out:
                optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    return dict(model.state_dict())


def test_a_spike_is_left_out_as_if_its_update_had_not_been(workspace, poisoned, tmp_path):
    stage = {**STAGE, "guard": {"loss_spike": 1.5, "limit": 5}}
    recipe = make_recipe(workspace, [stage], data={"path": str(poisoned)}, save_every=10)
    train(recipe, tmp_path / "run")
    skipped = [json.loads(line) for line in (tmp_path / "run/skipped_steps.jsonl").read_text().splitlines()]
    lines = metrics(tmp_path / "run")
    made: list[float] = []
    spikes = []
    for line in lines:  # the definition, slowly
        if len(made) >= 10 and line["loss"] > 1.5 * statistics.median(made[-50:]):
            spikes.append(line["step"])
        else:
            made.append(line["loss"])
        assert line["skipped_steps"] == len(spikes)
    assert len(spikes) >= 2 and [one["step"] for one in skipped] == spikes
    for one in skipped:
        assert "above 1.5 times the median" in one["why"]
        assert any(found["id"].endswith("7") for found in one["micro_batches"][0]["conversations"])
    trained, expected = weights(tmp_path / "run/model"), by_hand(workspace, poisoned, recipe.stages[0], set(spikes))
    assert largest_difference(trained, expected) < 1e-5
    every_step = by_hand(workspace, poisoned, recipe.stages[0], set())
    assert largest_difference(trained, every_step) > 1e-3

    shutil.copytree(tmp_path / "run", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut/model")
    shutil.rmtree(tmp_path / "cut/stages/1-s0/checkpoint-48")
    train(recipe, tmp_path / "cut", resume=True)
    assert largest_difference(weights(tmp_path / "cut/model"), trained) == 0.0
    name = "skipped_steps.jsonl"
    assert (tmp_path / "cut" / name).read_text() == (tmp_path / "run" / name).read_text()
    assert [line["skipped_steps"] for line in metrics(tmp_path / "cut")] == [line["skipped_steps"] for line in lines]


@pytest.mark.parametrize(
    ("guard", "step"),
    [({"grad_norm": 1e-3, "action": "stop"}, 1), ({"grad_norm": 1e-3, "limit": 2}, 3)],
)
def test_a_guard_stops_the_run(workspace, poisoned, tmp_path, guard, step):
    recipe = make_recipe(workspace, [{**STAGE, "guard": guard}], data={"path": str(poisoned)})
    with pytest.raises(RunError, match=f"step {step} was not made: its gradient norm"):
        train(recipe, tmp_path / "run")
    assert json.loads((tmp_path / "run/bad_batch.json").read_text())["step"] == step


@pytest.mark.parametrize(
    ("zero", "told"),
    [
        ({}, "no ZeRO stage"),
        ({"stage": 2, "offload_optimizer": {"device": "nvme"}}, "the optimiser on NVMe"),
        ({"stage": 3, "offload_optimizer": {"device": "cpu", "ratio": 0.5}}, "the optimiser in two places"),
    ],
)
def test_under_deepspeed_guard_and_average_want_the_optimiser_in_one_place(workspace, tmp_path, zero, told):
    config = read_json(catalog.find(catalog.DEEPSPEED, "zero3"))
    kept = {"stage3_gather_16bit_weights_on_model_save": True}
    (tmp_path / "own.json").write_text(json.dumps(config | {"zero_optimization": kept | zero}))
    recipe = make_recipe(workspace, [{**STAGE, "guard": {"grad_norm": 1.0}, "ema": 0.9}])
    with pytest.raises(ConfigError, match=f"'s0' has guard and ema, and the DeepSpeed config .* has {told}"):
        require_launch(recipe.model_copy(update={"deepspeed": str(tmp_path / "own.json")}))
    for name in ("zero1", "zero2", "zero3", "zero2-offload", "zero3-offload"):
        require_launch(recipe.model_copy(update={"deepspeed": name}))
