"""A tiny model's checkpoint and a small data set of different lengths, made once."""

from __future__ import annotations

import json
import random

import pytest
import torch

import mminstruct
from mminstruct.config import validate
from mminstruct.models import checkpoint
from mminstruct.training.config import Recipe
from tests.conftest import picture

WORDS = [
    "a",
    "red",
    "blue",
    "green",
    "circle",
    "triangle",
    "shape",
    "image",
    "what",
    "is",
    "the",
    "color",
    "of",
    "there",
    "no",
    "yes",
]


def write_dataset(folder, count: int, text_only: int = 0, seed: int = 0) -> None:
    """A LLaVA JSON with `count` items; the first `text_only` of them have no image."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for index in range(count):
        words = lambda low, high: " ".join(rng.choices(WORDS, k=rng.randint(low, high)))  # noqa: E731
        turns = []
        for turn in range(rng.randint(1, 3)):
            mark = "<image>\n" if turn == 0 and index >= text_only else ""
            turns.append({"from": "human", "value": mark + words(2, 9)})
            turns.append({"from": "gpt", "value": words(1, 7)})
        item = {"id": str(index), "conversations": turns}
        if index >= text_only:
            item = {"id": str(index), "image": f"{index}.png", "conversations": turns}
            picture(index, (24 + index, 30)).save(folder / f"{index}.png")
        items.append(item)
    (folder / "data.json").write_text(json.dumps(items))


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    """A folder with `model/` (tiny, random) and `data/data.json` (24 samples)."""
    folder = tmp_path_factory.mktemp("training")
    torch.manual_seed(0)
    checkpoint.save(folder / "model", *mminstruct.create("nano", tiny=True))
    write_dataset(folder / "data", 24)
    return folder


def make_recipe(workspace, stages: list[dict], **settings) -> Recipe:
    base = {"train": ["vision_encoder", "connector", "language_model"], "learning_rate": 1e-3, "batch_size": 4}
    return validate(
        Recipe,
        {
            "name": "test",
            "summary": "a test",
            "model": str(workspace / "model"),
            "data": {"path": str(workspace / "data/data.json")},
            "log_every": 1,
            **settings,
            "stages": [{"name": f"s{i}", **base, **stage} for i, stage in enumerate(stages)],
        },
        where="test",
    )


def weights(folder) -> dict[str, torch.Tensor]:
    return dict(mminstruct.load(folder)[0].state_dict())


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)
