"""`average: conversation`: each conversation's mean loss counts the same, however conversations stand and are split."""

from __future__ import annotations

import pytest
import torch

import mminstruct
from mminstruct import formats
from mminstruct.config import validate
from mminstruct.conversation import Conversation, Media
from mminstruct.data.dataset import ConversationDataset, MicroBatches
from mminstruct.data.plan import MicroBatch
from mminstruct.errors import ConfigError
from mminstruct.models.packing import packed
from mminstruct.training import objectives
from mminstruct.training.config import StageConfig
from mminstruct.training.run import train
from tests.conftest import conversation, picture
from tests.training.conftest import largest_difference, make_recipe, weights
from tests.training.test_exactness import metrics

# Short and long answers, several about one picture, two answers in one conversation, one without a picture.
TALKS = [
    conversation("is it red?", "no", images=1, name="short"),
    conversation("what is it?", "a green triangle, and there is no other shape in the image", images=1, name="long"),
    conversation("is it red?", "no", "what is it?", "a shape of the color red", images=1, name="two"),
    conversation("what color is the circle?", "the circle is blue", name="text"),
    Conversation(
        id="other",
        messages=conversation("what is it?", "a red circle", images=1).messages,
        media=[Media(path="1.png")],
    ),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("talks")
    for number in range(2):
        picture(number, (30, 24)).save(folder / f"{number}.png")
    formats.write(TALKS, folder / "talks", "native")
    return folder


@pytest.mark.parametrize("way", ["padded", "apart", "shared"])
def test_loss_and_gradients_equal_the_hand_written(data, way):
    torch.manual_seed(0)
    model, processor = mminstruct.create("nano", tiny=True)
    dataset = ConversationDataset(TALKS, data, processor, max_length=512)
    expected = torch.zeros(())
    for sample in (dataset[index] for index in range(5)):  # one by one, token by token
        inputs = {"input_ids": sample["input_ids"][None], "pixel_values": sample.get("pixel_values")}
        logits = model.train()(**inputs).logits[0]
        losses = [
            -logits[place - 1].log_softmax(-1)[sample["labels"][place]]
            for place in range(1, len(sample["input_ids"]))
            if sample["labels"][place] != -100
        ]
        expected = expected + sum(losses) / len(losses)
    expected.backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    batch = MicroBatches(dataset, way != "padded", way == "shared")[MicroBatch([0, 1, 2, 3, 4])]
    assert batch.pop("conversations") == 5
    objective = objectives.get("sft", average="conversation")
    with packed(model):
        output = objective(model, batch)
        output.loss_sum.backward()
    assert int(output.count) == int(objective.count(batch)) == 5
    assert output.loss_sum.item() == pytest.approx(expected.item(), rel=1e-5)
    assert largest_difference({name: p.grad for name, p in model.named_parameters()}, wanted) < 1e-5
    assert 0 <= output.metrics["token_accuracy_sum"] <= 5


def test_a_step_is_the_same_however_it_is_split(workspace, data, tmp_path):
    """And it is another one than with the mean over tokens."""
    source = {"data": {"path": str(data / "talks"), "media_root": str(data)}}
    mean = {"objective": {"kind": "sft", "average": "conversation"}, "steps": 3}
    ways = {
        "one": {**mean, "batch_size": 5},
        "split": {**mean, "batch_size": 1, "accumulate": 5},
        "packs": {**mean, "pack_tokens": 10_000},
        "tokens": {"batch_size": 5, "steps": 3},
    }
    found = {}
    for name, stage in ways.items():
        train(make_recipe(workspace, [stage], **source), tmp_path / name)
        found[name] = weights(tmp_path / name / "model")
    assert largest_difference(found["one"], found["tokens"]) > 1e-4
    lines = {name: metrics(tmp_path / name) for name in ways}
    for name in ("split", "packs"):
        assert largest_difference(found["one"], found[name]) < 1e-5
        for one, other in zip(lines["one"], lines[name], strict=True):
            assert other["supervised_conversations"] == 5
            assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
            assert other["token_accuracy"] == pytest.approx(one["token_accuracy"], rel=1e-5)


def test_gradient_dropout_wants_a_mean_over_tokens():
    mask = {"kind": "mask", "part": "connector"}
    stage = {"name": "s", "train": [], "adapters": [mask], "learning_rate": 1e-3}
    validate(StageConfig, stage, where="test")
    with pytest.raises(ConfigError, match="gradient_dropout is for losses that are means over tokens"):
        validate(StageConfig, {**stage, "objective": {"kind": "sft", "average": "conversation"}}, where="test")
