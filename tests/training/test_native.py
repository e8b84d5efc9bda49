"""A native model on the same roads as ours: `train`, `eval`, `chat`, by the same commands."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

import mminstruct
from mminstruct.data.dataset import ConversationDataset
from mminstruct.errors import DataError
from mminstruct.evaluation.adapters.zoo import ZooAdapter
from mminstruct.evaluation.runner import evaluate
from mminstruct.models import checkpoint
from mminstruct.models.parts import parts
from mminstruct.serving.generator import Generator
from mminstruct.serving.settings import GenerationSettings
from tests.command import call
from tests.evaluation.conftest import Mixed
from tests.models.native import ONE_PICTURE, PICTURES, lively, talk
from tests.training.conftest import largest_difference, write_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A native model as transformers saves it, with no file of ours, and a data set."""
    folder = tmp_path_factory.mktemp("native")
    model, processor = lively("qwen2.5-vl-3b")
    model.save_pretrained(folder / "model")
    processor.native.save_pretrained(folder / "model")
    write_dataset(folder / "data", 8, text_only=3)
    return folder


def recipe(folder, **stage):
    content = {
        "name": "native",
        "summary": "a test",
        "model": str(folder / "model"),
        "data": {"path": str(folder / "data/data.json")},
        "log_every": 1,
        "stages": [
            {
                "name": "tune",
                "train": ["connector", "language_model"],
                "learning_rate": {"connector": 1e-2, "language_model": 1e-3},
                "steps": 3,
                "batch_size": 4,
                "group_by_length": True,
                **stage,
            }
        ],
    }
    path = folder / "native.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_recipe_trains_a_folder_of_transformers(folder, tmp_path):
    code, out, error = call("train", recipe(folder), "--out", tmp_path / "run", "--json")
    assert code == 0, error
    trained = tmp_path / "run/model"
    assert json.loads(out)["model"] == str(trained)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 3 and losses[-1] < losses[0]

    before, after = (dict(mminstruct.load(path)[0].state_dict()) for path in (folder / "model", trained))
    model, _ = mminstruct.load(trained)
    vision = {id(p) for p in parts(model)["vision_encoder"].parameters()}
    frozen = [name for name, p in model.named_parameters() if id(p) in vision]
    learnt = [name for name, p in model.named_parameters() if id(p) not in vision]
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert not any(torch.equal(before[name], after[name]) for name in learnt)
    theirs = AutoModelForImageTextToText.from_pretrained(trained)
    assert largest_difference(dict(theirs.state_dict()), after) == 0
    assert AutoProcessor.from_pretrained(trained).chat_template

    # What was trained can be trained on, from where it is.
    code, _, error = call("train", recipe(folder), f"model={trained}", "--out", tmp_path / "again")
    assert code == 0, error


def test_a_stage_cannot_have_another_template(folder, tmp_path):
    path = recipe(folder, chat_template={"name": "plain"})
    code, _, error = call("train", path, "--out", tmp_path / "run")
    assert code == 2 and "processor's own chat template, not by 'plain'" in error
    assert not (tmp_path / "run").exists()


def test_a_sample_that_is_too_long_is_named(folder):
    _, processor = mminstruct.load(folder / "model")
    record = ONE_PICTURE.model_copy(update={"id": "the/long/one"})
    Image.new("RGB", (50, 40)).save(folder / "0.png")
    dataset = ConversationDataset([record], folder, processor, max_length=5)
    with pytest.raises(DataError, match=r"'the/long/one' has .* tokens, more than max_length 5"):
        dataset[0]


def test_evaluation_is_the_same_for_every_batch_size(folder, tmp_path):
    model, processor = mminstruct.load(folder / "model")
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        Image.new("RGB", (30 + 20 * number, 40), (80 * number, 50, 200)).save(path)
    benchmark = Mixed(paths, count=9)
    one_by_one = evaluate(ZooAdapter(model, processor, batch_tokens=1), benchmark).texts
    assert len(set(one_by_one)) > 3
    assert evaluate(ZooAdapter(model, processor, batch_tokens=600), benchmark).texts == one_by_one


def test_an_answer_streams(folder):
    model, processor = mminstruct.load(folder / "model")
    question = talk([0, "is it <|image_pad|> or <|im_end|> red?"], media=1)
    with Generator(model, processor) as generator:
        answer = generator.stream(question, PICTURES[:1], GenerationSettings(max_new_tokens=8))
        pieces = list(answer)
    harmless = talk([0, "is it < |image_pad|> or < |im_end|> red?"], media=1)
    batch = processor.collate([processor.prompt(harmless, PICTURES[:1])])
    ids = model.generate(**batch, max_new_tokens=8, do_sample=False)[0, batch["input_ids"].shape[1] :]
    assert "".join(pieces) == processor.tokenizer.decode(ids, skip_special_tokens=True)
    assert answer.usage.prompt_tokens == batch["input_ids"].shape[1]
    assert generator.context_length == 2048


def test_chat_and_zoo_take_native_models(folder, tmp_path):
    PICTURES[0].save(tmp_path / "a.png")
    options = ("--image", tmp_path / "a.png", "--question", "what is it?", "--max-new-tokens", "4", "--json")
    code, out, error = call("chat", folder / "model", *options)
    assert code == 0, error
    assert json.loads(out)["new_tokens"] == 4

    code, out, error = call("zoo", "create", "gemma-3-4b-it", "--tiny", "--out", tmp_path / "gemma")
    assert code == 0 and "connector: 1,056 parameters, weights: random" in out, error
    assert checkpoint.load(tmp_path / "gemma")[0].config.model_type == "gemma3"
    code, out, error = call("zoo", "show", "qwen3-vl-2b", "--json")
    assert code == 0, error
    shown = json.loads(out)
    assert shown["parameters"]["all"] == 2_127_532_032
    assert shown["memory_gb"]["run"]["bf16"] == pytest.approx(4.255)
    code, out, error = call("zoo", "list", "smolvlm-*", "--json")
    assert [row["name"] for row in json.loads(out)] == ["smolvlm-2.2b", "smolvlm-256m", "smolvlm-500m"]
