"""What is measured of a model while it trains: exact, of conversations it does not learn from, and without a trace."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

import mminstruct
from mminstruct import formats
from mminstruct.chat_template import IGNORE
from mminstruct.cli.train import scores
from mminstruct.data.dataset import ConversationDataset
from mminstruct.errors import ConfigError
from mminstruct.evaluation.adapters.zoo import ZooAdapter
from mminstruct.evaluation.answering import answer_shares
from mminstruct.evaluation.benchmark import load_benchmark
from mminstruct.evaluation.plot import draw_runs, read_runs
from mminstruct.evaluation.results import run_benchmark
from mminstruct.training.run import train
from tests.command import call
from tests.training.conftest import largest_difference, make_recipe, weights, write_dataset

VALUES = ("loss", "grad_norm", "learning_rate", "validation_loss", "validation_token_accuracy")


def metrics(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def numbers(lines: list[dict]) -> list[list]:
    return [[line.get(name) for name in ("stage", "step", *VALUES)] for line in lines]


@pytest.fixture(scope="module")
def held_out(workspace) -> Path:
    write_dataset(workspace / "held-out", 7, text_only=2, seed=1)
    return workspace / "held-out/data.json"


def plain_loss(folder: Path, data: Path) -> tuple[float, int]:
    """The mean over the supervised tokens, one conversation after the other, without padding or packing."""
    model, processor = mminstruct.load(folder)
    dataset = ConversationDataset(list(formats.read(data)), data.parent, processor, max_length=512)
    total, count = 0.0, 0
    with torch.no_grad():
        for sample in (dataset[index] for index in range(len(dataset))):
            media = {name: sample[name] for name in sample.keys() - {"input_ids", "labels"}}
            logits = model(input_ids=sample["input_ids"][None], **media).logits[0, :-1].double()
            labels = sample["labels"][1:]
            total += torch.nn.functional.cross_entropy(logits, labels, reduction="sum", ignore_index=IGNORE).item()
            count += int((labels != IGNORE).sum())
    return total / count, count


@pytest.mark.parametrize("batches", [{}, {"pack_tokens": 256}, {"group_by_length": True}])
def test_the_loss_is_the_mean_over_tokens_and_training_does_not_notice(workspace, held_out, tmp_path, batches):
    """With dropout, so that a random number drawn by validation would show."""
    adapters = [{"kind": "lora", "part": "language_model", "rank": 2, "alpha": 4, "dropout": 0.1}]
    stage = {"train": ["connector"], "adapters": adapters, "steps": 5, **batches}
    watched = {**stage, "validation": {"data": {"path": str(held_out)}, "every": 2}}
    train(make_recipe(workspace, [stage]), tmp_path / "plain")
    train(make_recipe(workspace, [watched]), tmp_path / "watched")
    assert largest_difference(weights(tmp_path / "plain/model"), weights(tmp_path / "watched/model")) == 0.0
    lines = metrics(tmp_path / "watched")
    validated = [line for line in lines if "loss" not in line]
    assert numbers([line for line in lines if "loss" in line]) == numbers(metrics(tmp_path / "plain"))
    assert [line["step"] for line in validated] == [2, 4, 5]
    expected, _ = plain_loss(tmp_path / "watched/model", held_out)
    assert validated[-1]["validation_loss"] == pytest.approx(expected, rel=1e-5)
    assert 0 <= validated[-1]["validation_token_accuracy"] <= 1
    draw_runs(read_runs([tmp_path / "watched"]), tmp_path / "plot.svg", ["validation_loss", "loss"])
    assert "Validation loss" in (tmp_path / "plot.svg").read_text()


def test_a_share_is_never_learnt_from_and_resume_repeats_no_line(workspace, tmp_path):
    stage = {"steps": 8, "validation": {"share": 0.3, "every": 3}}
    recipe = make_recipe(workspace, [stage], save_every=2)
    train(recipe, tmp_path / "run")
    (source,) = json.loads((tmp_path / "run/sources.json").read_text())["s0"]
    left = source["epoch"]["conversations"]
    assert 0 < left < 24 == source["conversations"]

    # The conversations that are left, alone, give the same training.
    items = json.loads((workspace / "data/data.json").read_text())
    names = [conversation.id for conversation in formats.read(workspace / "data/data.json")]
    digests = [int(hashlib.sha256(name.encode()).hexdigest(), 16) / 2**256 for name in names]
    rest = [item for item, digest in zip(items, digests, strict=True) if digest >= 0.3]
    assert len(rest) == left
    for item in rest:
        if "image" in item:
            item["image"] = str(workspace / "data" / item["image"])
    (tmp_path / "data").mkdir()
    (tmp_path / "data/data.json").write_text(json.dumps(rest))
    without = make_recipe(workspace, [{"steps": 8}], data={"path": str(tmp_path / "data/data.json")})
    train(without, tmp_path / "rest")
    assert largest_difference(weights(tmp_path / "run/model"), weights(tmp_path / "rest/model")) == 0.0

    shutil.copytree(tmp_path / "run", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut/model")
    shutil.rmtree(tmp_path / "cut/stages/1-s0/checkpoint-8")
    train(recipe, tmp_path / "cut", resume=True)
    assert numbers(metrics(tmp_path / "cut")) == numbers(metrics(tmp_path / "run"))


QUESTIONS = """
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol


class Words(Benchmark):
    name = "some-words"
    summary = "Words."
    primary_scorer = "exact-match"
    protocols = (Protocol("own", "this file", max_new_tokens=4),)

    def items(self):
        for number, word in enumerate(["red", "blue", "green", "a", "the"] * 4):
            yield Item(id=str(number), images=(), question=f"what is {word} number {number}", answers=(word,))


BENCHMARK = Words
"""


def test_the_model_answers_while_it_trains(workspace, held_out, tmp_path):
    """What is logged is what the evaluation finds of the model afterwards; training does not notice."""
    (tmp_path / "some_words.py").write_text(QUESTIONS)
    asked = {"limit": 5, "max_new_tokens": 6}
    watched = {
        "data": {"path": str(held_out)},
        "every": 2,
        "benchmarks": {str(tmp_path / "some_words.py"): {"limit": 12}},
        "answers": asked,
    }
    adapters = [{"kind": "lora", "part": "language_model", "rank": 2, "alpha": 4, "dropout": 0.1}]
    stage = {"train": ["connector"], "adapters": adapters, "steps": 3}
    recipe = make_recipe(workspace, [{**stage, "validation": watched}])
    with pytest.raises(ConfigError, match="asks its model"):
        train(recipe, tmp_path / "run")
    train(recipe, tmp_path / "run", scores=scores(recipe))
    train(make_recipe(workspace, [stage]), tmp_path / "plain")
    assert largest_difference(weights(tmp_path / "plain/model"), weights(tmp_path / "run/model")) == 0.0
    model, processor = mminstruct.load(tmp_path / "run/model")
    dataset = ConversationDataset(list(formats.read(held_out)), held_out.parent, processor, max_length=512)
    expected = answer_shares(model, processor, dataset, **asked, batch_size=2)
    benchmark = load_benchmark(str(tmp_path / "some_words.py"))
    result = run_benchmark(ZooAdapter(model, processor), benchmark, limit=12, blank=False)
    expected["some_words.accuracy"] = result.numbers()["accuracy"]
    last = metrics(tmp_path / "run")[-1]
    assert {name: last[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("validation", "told"),
    [
        ("{every: 5}", "give validation a share, data or benchmarks"),
        ("{share: 0.1, data: {path: x.json}}", "take one out"),
        ("{benchmarks: {easy-vqa: {}}, answers: {}}", "give validation a share or data"),
        ("{benchmarks: {easy-vka: {}}}", "easy-vqa"),
        ("{benchmarks: {easy-vqa: {options: {turns: 3}}}}", "turns"),
    ],
)
def test_what_cannot_be_validated_is_said_at_once(tmp_path, validation, told):
    code, _, error = call("train", "quickstart", f"stages.0.validation={validation}", "--out", tmp_path / "run")
    (line,) = [line for line in error.splitlines() if line.startswith("error")]
    assert code == 2 and told in line and not (tmp_path / "run").exists()
