"""Preference tuning of text: TRL's `DPOTrainer` finds the same loss and the same gradients on the same tokens.

Its `ipo` takes the mean over an answer's tokens, ours the sum as the paper does, so that is not compared. TRL has label
smoothing in `aot`, which sorts the ratios of a batch first: with one pair in it that is our smoothed `sigmoid`. Its
`sft` beside `sigmoid` is a mean over a batch's tokens: with one pair that is our supervised term.
"""

from __future__ import annotations

import copy

import pytest
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

import mminstruct
from mminstruct.data.dataset import MicroBatches
from mminstruct.data.pairs import PairDataset
from mminstruct.data.plan import MicroBatch
from mminstruct.models import checkpoint
from mminstruct.models.packing import packed
from mminstruct.training import objectives
from mminstruct.training.stage_run import training_arguments
from tests.conftest import turns
from tests.training.conftest import largest_difference, make_recipe
from tests.training.test_preference import pair

PAIRS = [
    pair("one", turns("what color is the circle?"), "red", "no, it is blue"),
    pair("two", turns("is there a shape?", "yes", "which?"), "a green triangle", "a"),
    pair("three", turns("is it red?"), "yes, it is red", "is it?"),
]


def in_trls_words(samples: list[dict[str, torch.Tensor]]) -> list[dict[str, list[int]]]:
    """Prompt and continuations of each pair, where the labels part them."""
    rows = []
    for chosen, rejected in zip(samples[0::2], samples[1::2], strict=True):
        first = int((chosen["labels"] != -100).nonzero()[0])
        ends = [int((one["labels"] != -100).nonzero()[-1]) + 1 for one in (chosen, rejected)]
        rows.append(
            {
                "prompt_ids": chosen["input_ids"][:first].tolist(),
                "chosen_ids": chosen["input_ids"][first : ends[0]].tolist(),
                "rejected_ids": rejected["input_ids"][first : ends[1]].tolist(),
            }
        )
    return rows


@pytest.mark.parametrize(
    ("options", "theirs", "indices"),
    [
        ({"beta": 0.5}, {"loss_type": "sigmoid"}, [0, 1, 2]),
        ({"beta": 0.5, "label_smoothing": 0.2}, {"loss_type": "aot", "label_smoothing": 0.2}, [1]),
        (
            {"beta": 0.5, "supervised_weight": 0.7},
            {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7]},
            [2],
        ),
    ],
    ids=["sigmoid", "smoothed", "supervised"],
)
def test_loss_and_gradients_equal_trls(tmp_path, options, theirs, indices):
    torch.manual_seed(1)
    reference, _ = mminstruct.create("nano", tiny=True)
    torch.manual_seed(0)
    model, processor = mminstruct.create("nano", tiny=True)
    dataset = PairDataset(PAIRS, tmp_path, processor, max_length=512)
    plain, plain_reference = (copy.deepcopy(one.language_model) for one in (model, reference))

    own = {"output_dir": str(tmp_path / "trl"), "use_cpu": True, "bf16": False, "gradient_checkpointing": False}
    config = DPOConfig(**own, **theirs, beta=0.5, report_to=[])
    unused = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])
    trainer = DPOTrainer(plain, plain_reference, config, train_dataset=unused, processing_class=processor.tokenizer)
    batch = trainer.data_collator(in_trls_words(dataset.samples(indices)))
    expected = trainer.compute_loss(plain.train(), batch)
    expected.backward()
    wanted = {name: p.grad for name, p in plain.named_parameters()}

    checkpoint.save(tmp_path / "reference", reference, processor)
    recipe = make_recipe(tmp_path, [{}])
    objective = objectives.get("dpo", reference=str(tmp_path / "reference"), **options)
    objective.start(model, processor, [], training_arguments(recipe, recipe.stages[0], tmp_path / "stage"))
    batch = MicroBatches(dataset, True, True)[MicroBatch(indices)]
    del batch["conversations"]
    with packed(model):
        output = objective(model.train(), batch)
        loss = output.loss_sum / output.count
        loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5) and abs(loss.item() - 0.6931) > 1e-3
    found = {name: p.grad for name, p in model.language_model.named_parameters()}
    assert largest_difference(found, wanted) < 1e-5 and max(float(g.abs().max()) for g in wanted.values()) > 1e-2
