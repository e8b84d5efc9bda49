"""Preference tuning: the loss of a slow hand-written one, however pairs are packed, split and referred to."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch

import mminstruct
from mminstruct import formats
from mminstruct.config import validate
from mminstruct.conversation import Conversation, ImagePart, Media, Message, Preference, TextPart
from mminstruct.data.dataset import MicroBatches
from mminstruct.data.pairs import PairDataset
from mminstruct.data.plan import MicroBatch
from mminstruct.errors import ConfigError, DataError
from mminstruct.models import checkpoint
from mminstruct.models.adapters import LoraConfig, attach
from mminstruct.models.packing import owners, packed, position_function
from mminstruct.models.parts import freeze
from mminstruct.training import objectives
from mminstruct.training.config import StageConfig
from mminstruct.training.run import train
from mminstruct.training.stage_run import training_arguments
from tests.conftest import picture, turns
from tests.models.native import lively
from tests.training.conftest import largest_difference, make_recipe, weights
from tests.training.launching import train_on_two
from tests.training.test_exactness import metrics

ALL = ["vision_encoder", "connector", "language_model"]


def pair(name: str, question: list[Message], chosen: str, rejected: str, media=(), shown=(), wrong=()) -> Conversation:
    """`shown` and `wrong`: pictures that the chosen and the rejected answer show themselves."""
    answers = [
        [Message(role="assistant", content=[TextPart(text=text), *(ImagePart(index=index) for index in pictures)])]
        for text, pictures in ((chosen, shown), (rejected, wrong))
    ]
    return Conversation(
        id=name,
        messages=question,
        media=[Media(path=f"{number}.png") for number in media],
        preference=Preference(chosen=answers[0], rejected=answers[1]),
    )


# With a picture; without one; with an answer before; about the first picture again; with pictures in both branches.
PAIRS = [
    pair("seen", turns("what is it?", images=1), "a red circle", "a blue circle, yes", [0]),
    pair("text", turns("what color is the circle?"), "red", "no", []),
    pair("later", turns("what is it?", "a shape", "which?", images=1), "a circle", "no", [1]),
    pair("again", turns("is it red?", images=1), "yes, it is", "is it?", [0]),
    pair("shown", turns("which of the two?", images=1), "the first ", "that ", [0, 1, 2], shown=[1], wrong=[2]),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    for number in range(3):
        picture(number, (30, 24)).save(folder / f"{number}.png")
    formats.write(PAIRS, folder / "pairs", "native")
    return folder


@pytest.fixture
def pairs(data):
    """A model, one that it is compared with, and the data set of `PAIRS`."""
    torch.manual_seed(1)
    reference, _ = mminstruct.create("nano", tiny=True)
    torch.manual_seed(0)
    model, processor = mminstruct.create("nano", tiny=True)
    return model.train(), reference.eval(), PairDataset(PAIRS, data, processor, max_length=512)


def by_hand(model, reference, dataset, options: objectives.ObjectiveConfig) -> torch.Tensor:
    """Each branch alone, token by token; the formulas of the papers."""

    def log_probability(of, sample) -> torch.Tensor:
        inputs = {"input_ids": sample["input_ids"][None]}
        if "pixel_values" in sample:
            inputs["pixel_values"] = sample["pixel_values"]
        logits = of(**inputs).logits[0]
        total = logits.new_zeros(())
        for position in range(1, len(sample["input_ids"])):
            if sample["labels"][position] != -100:
                total = total + torch.log_softmax(logits[position - 1], -1)[sample["labels"][position]]
        return total

    total = torch.zeros(())
    for chosen, rejected in ((dataset[2 * i], dataset[2 * i + 1]) for i in range(dataset.units)):
        better, worse = (log_probability(model, sample) for sample in (chosen, rejected))
        with torch.no_grad():
            better_before, worse_before = (log_probability(reference, sample) for sample in (chosen, rejected))
        h = (better - better_before) - (worse - worse_before)
        if options.loss == "ipo":
            total = total + (h - 1 / (2 * options.beta)) ** 2
        else:
            right, wrong = torch.sigmoid(options.beta * h), torch.sigmoid(-options.beta * h)
            total = total - (1 - options.label_smoothing) * right.log() - options.label_smoothing * wrong.log()
        total = total - options.supervised_weight * better / int((chosen["labels"][1:] != -100).sum())
    return total


def batch_of(dataset, share: bool, indices=(0, 1, 2, 3, 4), pack: bool = True):
    batch = MicroBatches(dataset, pack, share)[MicroBatch(list(indices))]
    assert batch.pop("conversations") == 2 * len(indices)
    return batch


def objective_for(model, reference, dataset, tmp_path, **options):
    checkpoint.save(tmp_path / "reference", reference, dataset.processor)
    made = objectives.get("dpo", reference=str(tmp_path / "reference"), **options)
    made.start(model, dataset.processor, ALL, settings(tmp_path))
    return made


def settings(tmp_path):
    recipe = make_recipe(tmp_path, [{}])
    return training_arguments(recipe, recipe.stages[0], tmp_path / "stage")


@pytest.mark.parametrize("way", ["padded", "apart", "shared"])
@pytest.mark.parametrize(
    "options",
    [{}, {"beta": 0.5, "label_smoothing": 0.2}, {"loss": "ipo"}, {"supervised_weight": 2.0}],
    ids=["sigmoid", "smoothed", "ipo", "supervised"],
)
def test_loss_and_gradients_equal_the_hand_written(pairs, tmp_path, way, options):
    model, reference, dataset = pairs
    objective = objective_for(model, reference, dataset, tmp_path, **options)
    expected = by_hand(model, reference, dataset, objective.config)
    expected.backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    batch = batch_of(dataset, way == "shared", pack=way != "padded")
    with packed(model):
        output = objective(model, batch)
        output.loss_sum.backward()
    assert int(output.count) == int(objective.count(batch)) == len(PAIRS)
    assert output.loss_sum.item() == pytest.approx(expected.item(), rel=1e-5)
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert largest > 0.1 and largest_difference(found, wanted) < 1e-5 * max(1.0, largest)
    assert output.metrics["reward_margin_sum"].item() == pytest.approx(
        (output.metrics["chosen_reward_sum"] - output.metrics["rejected_reward_sum"]).item(), abs=1e-6
    )


@pytest.mark.parametrize("row", ["qwen2.5-vl-3b", "smolvlm-256m", "internvl3-1b"])
def test_native_rows_equal_padded_batches(data, row):
    """Pictures in both branches, and a text that stands in the row once before pictures that do not, among them."""
    model, processor = lively(row)
    freeze(model, ALL)
    dataset = PairDataset(PAIRS, data, processor, max_length=512)
    objective = objectives.get("dpo")  # no adapters, so the model is its own reference
    found = []
    for pack in (False, True):
        batch = MicroBatches(dataset, pack, pack, position_function(model))[MicroBatch([0, 1, 2, 3, 4])]
        del batch["conversations"]
        model.zero_grad()
        with packed(model):
            output = objective(model, batch)
            output.loss_sum.backward()
        assert int(output.count) == 5
        found.append((output, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}))
    (padded, wanted), (row_of_all, gradients) = found
    assert row_of_all.loss_sum.item() == pytest.approx(padded.loss_sum.item(), rel=1e-5)
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    assert largest_difference(gradients, wanted) < 1e-5 * max(1.0, largest) and largest > 1e-2


def test_a_pair_has_its_prompt_once(pairs):
    """The picture too, and the words of a prompt without one; a pair shares with no other, and the plan knows."""
    _, _, dataset = pairs
    shared, apart = (batch_of(dataset, share) for share in (True, False))
    assert shared["pixel_values"].shape[0] == 6 and apart["pixel_values"].shape[0] == 10
    for share, batch in ((True, shared), (False, apart)):
        tokens, _ = dataset.token_counts(share)
        for index, count in enumerate(tokens):
            assert batch_of(dataset, share, [index])["input_ids"].shape[1] == count
        assert batch["input_ids"].shape[1] == sum(tokens)
        labelled = batch["labels"] != -100
        assert owners(batch)[labelled].unique().tolist() == list(range(10))
    assert all(a < b for a, b in zip(dataset.token_counts(True)[0], dataset.token_counts(False)[0], strict=True))


def test_only_the_continuation_is_supervised(pairs):
    _, _, dataset = pairs
    sample = dataset[4]
    answer = sample["labels"][sample["labels"] != -100]
    assert dataset.processor.decode(answer) == "a circle"


def test_a_batch_that_only_keeps_step_counts_nothing(pairs, tmp_path):
    model, reference, dataset = pairs
    objective = objective_for(model, reference, dataset, tmp_path)
    batch = MicroBatches(dataset, True, True)[MicroBatch([0, 1], counts=False)]
    assert batch.pop("conversations") == 0 and objective.count(batch) == 0
    with packed(model):
        output = objective(model, batch)
    output.loss_sum.backward()
    assert output.loss_sum == 0 and int(output.count) == 0
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("row", "parts"), [("nano", ["language_model"]), ("qwen2.5-vl-3b", ["language_model", "vision_encoder"])]
)
def test_adapters_off_are_the_model_without_them(data, tmp_path, row, parts):
    """For a packed and for a native model, after the adapters have learnt something."""
    torch.manual_seed(0)
    model, processor = mminstruct.create(row, tiny=True)
    dataset = PairDataset(PAIRS[:2], data, processor, max_length=512)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batch = MicroBatches(dataset, True, True, position_function(model))[MicroBatch([0, 1])]
    del batch["conversations"]
    made = {}
    for reference in (None, "start"):
        made[reference] = objectives.get("dpo", reference=reference)
        made[reference].start(model, processor, [], settings(tmp_path))
    adapters = [attach(model, LoraConfig(kind="lora", part=part)) for part in parts]
    for adapter in adapters:
        for parameter in adapter.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    with packed(model), torch.no_grad():
        outputs = []
        for objective in made.values():
            objective.adapters = adapters
            outputs.append(objective(model.train(), batch))
    off, separate = outputs
    assert off.loss_sum.item() == pytest.approx(separate.loss_sum.item(), rel=1e-6)
    assert abs(off.loss_sum.item() - 2 * math.log(2)) > 1e-4
    assert all(parameter.requires_grad for adapter in adapters for parameter in adapter.parameters())
    for adapter in adapters:
        adapter.unload()
    assert largest_difference(start, model.state_dict()) == 0.0


LORA = {"kind": "lora", "part": "language_model", "rank": 4, "alpha": 8, "learning_rate": 1e-2}


def run(workspace, data, out, **stage):
    settings = {"data": {"path": str(data / "pairs"), "media_root": str(data)}, **stage.pop("settings", {})}
    train(make_recipe(workspace, [{"objective": "dpo", **stage}], **settings), out)
    return weights(out / "model")


def test_a_step_is_the_same_however_it_is_split_and_referred_to(workspace, data, tmp_path):
    """LoRA switched off, a copy and a checkpoint; one batch, accumulation, packs: one step of all pairs each time."""
    lora = {"train": [], "adapters": [LORA], "learning_rate": 1e-2, "steps": 4}
    ways = {
        "off": {"batch_size": 5},
        "copy": {"batch_size": 5, "objective": {"kind": "dpo", "reference": "start"}},
        "folder": {"batch_size": 5, "objective": {"kind": "dpo", "reference": str(workspace / "model")}},
        "split": {"batch_size": 1, "accumulate": 5},
        "packs": {"pack_tokens": 10_000},
        "apart": {"batch_size": 5, "share_prefix": False},
    }
    found = {name: run(workspace, data, tmp_path / name, **lora, **way) for name, way in ways.items()}
    assert largest_difference(weights(workspace / "model"), found["off"]) > 1e-3
    logged = {name: metrics(tmp_path / name) for name in ways}
    for name in ways:
        assert largest_difference(found["off"], found[name]) < 1e-5, name
        for one, other in zip(logged["off"], logged[name], strict=True):
            assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
            assert other["reward_margin"] == pytest.approx(one["reward_margin"], abs=1e-6)
            assert other["pairs"] == 5 and other["preference_accuracy"] == one["preference_accuracy"]
    first, last = logged["off"][0], logged["off"][-1]
    assert first["loss"] == pytest.approx(math.log(2), rel=1e-6) and first["reward_margin"] == 0.0
    assert last["loss"] < first["loss"] and last["reward_margin"] > 0 and last["preference_accuracy"] > 0.5
    assert "supervised_tokens" not in first


def test_two_processes_equal_one(workspace, data, tmp_path):
    """Five pairs on two processes, one of which only keeps step in the end; adapters are switched off under DDP."""
    lora = {"objective": "dpo", "train": [], "adapters": [LORA], "learning_rate": 1e-2, "epochs": 2.0}
    source = {"data": {"path": str(data / "pairs"), "media_root": str(data)}}
    one, two = (make_recipe(workspace, [{**lora, "batch_size": 1, "accumulate": n}], **source) for n in (2, 1))
    train(one, tmp_path / "one")
    train_on_two(two, tmp_path)
    assert largest_difference(weights(workspace / "model"), weights(tmp_path / "one/model")) > 1e-3
    assert largest_difference(weights(tmp_path / "one/model"), weights(tmp_path / "two/model")) < 1e-5
    for a, b in zip(metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True):
        assert a["pairs"] == b["pairs"] and a["reward_margin"] == pytest.approx(b["reward_margin"], abs=1e-5)


def test_resumed_preference_tuning_is_bit_equal(workspace, data, tmp_path):
    """The copy that it is compared with is the model that the stage began with, in a resumed run, too."""
    recipe = make_recipe(
        workspace,
        [{"objective": "dpo", "batch_size": 2, "steps": 6}],
        data={"path": str(data / "pairs"), "media_root": str(data)},
        save_every=2,
    )
    train(recipe, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut/model")
    shutil.rmtree(tmp_path / "cut/stages/1-s0/checkpoint-6")
    train(recipe, tmp_path / "cut", resume=True)
    assert largest_difference(weights(tmp_path / "whole/model"), weights(tmp_path / "cut/model")) == 0.0


def test_pairs_come_from_several_sources_and_are_left_out_whole(workspace, data, tmp_path):
    """A mixture of pairs, one of them too long and one with a picture that is missing."""
    formats.write(PAIRS[:2], data / "few", "native")
    long = pair("long", turns("what is it?"), "a " * 200, "no")
    lost = pair("lost", turns("what is it?", images=1), "a", "no", ["none"])
    formats.write([long, PAIRS[2], lost], data / "more", "native")
    mixture = [{"path": str(data / name), "media_root": str(data)} for name in ("few", "more")]
    source = {"mixture": mixture, "too_long": "skip", "on_error": "skip"}
    run(workspace, data, tmp_path / "run", batch_size=1, accumulate=3, epochs=2,
        settings={"data": source, "max_length": 100})  # fmt: skip
    assert [line["pairs"] for line in metrics(tmp_path / "run")] == [3, 3]
    skipped = [json.loads(line) for line in (tmp_path / "run/skipped.jsonl").read_text().splitlines()]
    assert [(row["id"], row["cause"]) for row in skipped] == [("long", "too_long"), ("lost", "media")]
    rows = json.loads((tmp_path / "run/sources.json").read_text())["s0"]
    assert [(row["conversations"], row["epoch"]["conversations"]) for row in rows] == [(2, 2), (3, 1)]
    dataset = PairDataset(PAIRS[:3], data, mminstruct.load(workspace / "model")[1], max_length=512)
    assert sum(row["epoch"]["tokens"] for row in rows) == sum(dataset.token_counts(share=False)[0])
    with pytest.raises(ConfigError, match="never cut"):
        run(workspace, data, tmp_path / "no", settings={"data": {**source, "too_long": "truncate"}})


def test_what_cannot_be_compared_is_named(workspace, data, tmp_path):
    plain = {"data": {"path": str(workspace / "data/data.json")}}
    with pytest.raises(DataError, match="conversation '0' has no preference"):
        run(workspace, data, tmp_path / "no", settings=plain)
    with pytest.raises(DataError, match=r"conversation '\w+/\w+' has \d+ tokens, more than max_length 20"):
        run(workspace, data, tmp_path / "no", settings={"max_length": 20})
    with pytest.raises(DataError, match="more than pack_tokens 25"):
        run(workspace, data, tmp_path / "no", pack_tokens=25)
    torch.manual_seed(0)
    checkpoint.save(tmp_path / "other", *mminstruct.create("nano-tiles", tiny=True))
    with pytest.raises(ConfigError, match=r"objective.reference: the model in .* wants its pictures prepared"):
        run(workspace, data, tmp_path / "no", objective={"kind": "dpo", "reference": str(tmp_path / "other")})
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"objective": "dpoo"}, "no objective is called 'dpoo'. Did you mean 'dpo'"),
        ({"objective": {"kind": "dpo", "betta": 1}}, "betta"),
        ({"objective": {"kind": "dp"}}, "objective.kind: 'dp' is none of"),
        ({"objective": {"kind": "dpo", "loss": "ipo", "label_smoothing": 0.1}}, "label_smoothing belongs to"),
        ({"objective": "dpo", "loss": "all"}, "loss: all is for objectives of tokens"),
        (
            {"objective": "dpo", "train": [], "adapters": [{"kind": "mask", "part": "connector"}]},
            "gradient_dropout: 0",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused(stage, message):
    with pytest.raises(ConfigError, match=message):
        validate(StageConfig, {"name": "s", "train": ["connector"], "learning_rate": 1e-3, **stage}, where="test")
