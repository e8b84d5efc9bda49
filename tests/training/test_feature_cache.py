"""Training on cached features: the same losses and weights as without, and the encoder runs once in all runs."""

from __future__ import annotations

import json
import logging
import random
import shutil

import pytest
import torch
from safetensors import safe_open

import mminstruct
from mminstruct.data import dataset as dataset_module
from mminstruct.data import feature_fill
from mminstruct.errors import ConfigError, DataError, RunError
from mminstruct.models import checkpoint
from mminstruct.models.encoders import Tower
from mminstruct.training.run import train
from tests.conftest import picture
from tests.training.conftest import WORDS, largest_difference, make_recipe, weights
from tests.training.launching import train_on_two
from tests.training.test_exactness import metrics

FROZEN = {"train": ["connector", "language_model"]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Questions about four pictures of different shapes, several about each, and conversations without one."""
    folder = tmp_path_factory.mktemp("questions")
    rng = random.Random(0)
    items = []
    for index in range(20):
        words = lambda low, high: " ".join(rng.choices(WORDS, k=rng.randint(low, high)))  # noqa: E731
        mark = "<image>\n" if index < 14 else ""
        turns = [{"from": "human", "value": mark + words(2, 9)}, {"from": "gpt", "value": words(1, 9)}]
        items.append({"id": str(index), **({"image": f"{index % 4}.png"} if mark else {}), "conversations": turns})
    for number, size in enumerate([(30, 24), (90, 30), (30, 110), (64, 64)]):
        picture(number, size).save(folder / f"{number}.png")
    rng.shuffle(items)
    (folder / "data.json").write_text(json.dumps(items))
    return {"path": str(folder / "data.json")}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for row in ("nano", "nano-tiles", "nano-gated-cross-attention", "nano-average-pool"):
        torch.manual_seed(0)
        checkpoint.save(folder / row, *mminstruct.create(row, tiny=True))
    return folder


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """How many tiles the encoder saw, call by call."""
    seen: list[int] = []
    forward = Tower.forward

    def counted(self, pixel_values):
        seen.append(len(pixel_values))
        return forward(self, pixel_values)

    monkeypatch.setattr(Tower, "forward", counted)
    return seen


def cache(folder, dtype="float32", **settings) -> dict:
    return {"folder": str(folder), "dtype": dtype, **settings}


def losses(out) -> list[float]:
    return [line["loss"] for line in metrics(out)]


@pytest.mark.parametrize(
    ("row", "stage"),
    [
        ("nano", {"batch_size": 5, "epochs": 3.0}),
        ("nano", {"batch_size": 1, "accumulate": 5, "share_prefix": False}),  # micro-batches of text alone
        ("nano", {"pack_tokens": 200, "epochs": 2.0}),
        ("nano-tiles", {"batch_size": 4, "epochs": 2.0}),
        ("nano-gated-cross-attention", {"batch_size": 2}),  # padded
        ("nano-average-pool", {"batch_size": 5, "epochs": 2.0}),
        ("nano-average-pool", {"pack_tokens": 200, "feature_cache": {"pooled": True}}),
    ],
)
def test_cached_equals_uncached_and_a_second_run_computes_nothing(
    models, data, tmp_path, calls, monkeypatch, row, stage
):
    settings = {"model": str(models / row), "data": data}
    own = stage.get("feature_cache", {})
    stage = {**FROZEN, **stage, "feature_cache": None}
    train(make_recipe(tmp_path, [stage], **settings), tmp_path / "plain")
    calls.clear()
    cached = make_recipe(tmp_path, [{**stage, "feature_cache": cache(tmp_path / "cache", **own)}], **settings)

    def refused(*_):
        raise AssertionError("a picture was opened in training")

    monkeypatch.setattr(dataset_module, "open_medium", refused)
    train(cached, tmp_path / "first")
    assert len(calls) == 1  # all four pictures at once
    calls.clear()
    monkeypatch.setattr(feature_fill, "open_medium", refused)
    train(cached, tmp_path / "second")
    assert not calls
    assert largest_difference(weights(models / row), weights(tmp_path / "plain/model")) > 1e-4
    for name in ("first", "second"):
        assert largest_difference(weights(tmp_path / "plain/model"), weights(tmp_path / name / "model")) < 1e-6
        assert losses(tmp_path / name) == pytest.approx(losses(tmp_path / "plain"), abs=1e-6)


@pytest.mark.parametrize(("dtype", "closeness"), [("bfloat16", 1e-3), ("float8_e4m3fn", 1e-2)])
def test_smaller_numbers_are_close(models, data, tmp_path, dtype, closeness):
    """Losses and weights, after twelve steps at a rate of 1e-3."""
    settings = {"model": str(models / "nano"), "data": data}
    stage = {**FROZEN, "batch_size": 5, "steps": 12}
    train(make_recipe(tmp_path, [stage], **settings), tmp_path / "plain")
    stage["feature_cache"] = cache(tmp_path / "cache", dtype)
    train(make_recipe(tmp_path, [stage], **settings), tmp_path / "cached")
    difference = max(abs(a - b) for a, b in zip(losses(tmp_path / "plain"), losses(tmp_path / "cached"), strict=True))
    assert 0 < difference < closeness
    assert largest_difference(weights(tmp_path / "plain/model"), weights(tmp_path / "cached/model")) < closeness


def test_bf16_runs_cache_what_they_compute(models, data, tmp_path):
    """Autocast rounds the encoder's last product to bfloat16 or not; a cache of float32 keeps it as it is."""
    settings = {"model": str(models / "nano"), "data": data, "precision": "bf16"}
    stage = {**FROZEN, "batch_size": 5, "steps": 4}
    train(make_recipe(tmp_path, [stage], **settings), tmp_path / "plain")
    stage["feature_cache"] = cache(tmp_path / "cache")
    train(make_recipe(tmp_path, [stage], **settings), tmp_path / "cached")
    assert losses(tmp_path / "cached") == pytest.approx(losses(tmp_path / "plain"), abs=1e-3)


@pytest.mark.parametrize("workers", [2])
def test_workers_change_nothing(models, data, tmp_path, workers):
    settings = {"model": str(models / "nano-tiles"), "data": data}
    stage = {**FROZEN, "pack_tokens": 400}
    for number in (0, workers):
        stage["feature_cache"] = cache(tmp_path / f"cache{number}")
        train(make_recipe(tmp_path, [stage], workers=number, **settings), tmp_path / str(number))
    assert largest_difference(weights(tmp_path / "0/model"), weights(tmp_path / f"{workers}/model")) == 0.0


def test_a_stage_behind_one_that_changes_the_encoder_caches_the_new_one(models, data, tmp_path, calls):
    """Stages up to there are filled before the first begins, one cache for both, and with the first's weights."""
    settings = {"model": str(models / "nano"), "data": data}
    stages = [
        {"train": ["connector"], "steps": 2},
        {"train": ["language_model"], "steps": 2},
        {"train": ["connector", "vision_encoder"], "steps": 3},
        {"train": ["connector"], "steps": 2},
    ]
    train(make_recipe(tmp_path, stages, **settings), tmp_path / "plain")
    for number in (0, 1, 3):
        stages[number]["feature_cache"] = cache(tmp_path / "cache")
    calls.clear()
    train(make_recipe(tmp_path, stages, **settings), tmp_path / "cached")
    assert len(list((tmp_path / "cache").glob("*/description.json"))) == 2
    assert largest_difference(weights(tmp_path / "plain/model"), weights(tmp_path / "cached/model")) < 1e-6
    assert losses(tmp_path / "cached") == pytest.approx(losses(tmp_path / "plain"), abs=1e-6)


def test_resume_is_bit_equal(models, data, tmp_path, calls):
    settings = {"model": str(models / "nano"), "data": data, "save_every": 2}
    stages = [
        {"train": ["connector"], "steps": 3, "feature_cache": cache(tmp_path / "cache", "bfloat16")},
        {**FROZEN, "batch_size": 5, "epochs": 2.0, "feature_cache": cache(tmp_path / "cache", "bfloat16")},
    ]
    recipe = make_recipe(tmp_path, stages, **settings)
    train(recipe, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut/model")
    kept = sorted((tmp_path / "cut/stages/2-s1").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    shutil.rmtree(kept[-1])
    calls.clear()
    train(recipe, tmp_path / "cut", resume=True)
    assert not calls
    assert largest_difference(weights(tmp_path / "whole/model"), weights(tmp_path / "cut/model")) == 0.0
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")


def test_pooled_features_take_less_room_and_belong_to_their_grid(models, data, tmp_path, calls):
    settings = {"model": str(models / "nano-average-pool"), "data": data}
    model, _ = mminstruct.load(models / "nano-average-pool")
    assert model.pooled_shape[0] < model.feature_shape[0]
    for pooled in (True, False):
        stage = {**FROZEN, "steps": 1, "feature_cache": cache(tmp_path / "cache", pooled=pooled)}
        train(make_recipe(tmp_path, [stage], **settings), tmp_path / str(pooled))
    shapes = []
    for path in (tmp_path / "cache").glob("*/*.safetensors"):
        with safe_open(path, framework="pt") as shard:
            shapes.append(tuple(shard.get_tensor(next(iter(shard.keys()))).shape[1:]))
    assert sorted(shapes) == sorted([model.pooled_shape, model.feature_shape]) and len(calls) == 2
    stage = {**FROZEN, "feature_cache": cache(tmp_path / "cache", pooled=True)}
    with pytest.raises(ConfigError, match="its connector does not begin by pooling features, as average_pool does"):
        train(make_recipe(tmp_path, [stage], model=str(models / "nano"), data=data), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_cached_is_refused(models, data, tmp_path):
    settings = {"model": str(models / "nano"), "data": data}
    lora = {"kind": "lora", "part": "vision_encoder", "rank": 2, "alpha": 4, "learning_rate": 1e-3}
    for stage in ({"train": ["vision_encoder"]}, {"train": ["connector"], "adapters": [lora]}):
        with pytest.raises(ConfigError, match="its vision_encoder learns"):
            make_recipe(tmp_path, [{**stage, "feature_cache": cache(tmp_path / "cache")}], **settings)
    with pytest.raises(ConfigError, match=r"unknown key 'stages.0.feature_cache.limit'. Did you mean 'limit_gb'"):
        make_recipe(tmp_path, [{**FROZEN, "feature_cache": cache(tmp_path / "cache", limit=3)}], **settings)
    small = {**FROZEN, "feature_cache": cache(tmp_path / "cache", limit_gb=1e-6)}
    with pytest.raises(RunError, match="above its limit_gb"):
        train(make_recipe(tmp_path, [small], **settings), tmp_path / "run")
    torch.manual_seed(0)
    checkpoint.save(tmp_path / "native", *mminstruct.create("qwen2.5-vl-3b", tiny=True))
    native = make_recipe(
        tmp_path, [{**FROZEN, "feature_cache": cache(tmp_path / "cache")}], data=data, model=str(tmp_path / "native")
    )
    with pytest.raises(ConfigError, match="transformers' own"):
        train(native, tmp_path / "run")
    assert not (tmp_path / "cache").exists() and not (tmp_path / "run").exists()


def test_a_damaged_cache_stops_the_run_with_what_to_remove(models, data, tmp_path):
    stage = {**FROZEN, "feature_cache": cache(tmp_path / "cache")}
    recipe = make_recipe(tmp_path, [stage], model=str(models / "nano"), data=data)
    train(recipe, tmp_path / "first")
    (shard,) = (tmp_path / "cache").rglob("*.safetensors")
    content = bytearray(shard.read_bytes())
    content[-100] ^= 4
    shard.write_bytes(bytes(content))
    with pytest.raises(DataError, match=rf"is damaged; remove .*{shard.stem}.safetensors and .json"):
        train(recipe, tmp_path / "second")
    shard.unlink()
    shard.with_suffix(".json").unlink()
    train(recipe, tmp_path / "third")
    assert largest_difference(weights(tmp_path / "first/model"), weights(tmp_path / "third/model")) == 0.0


def test_the_log_says_what_is_computed_and_when_it_does_not_pay(models, data, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    stage = {**FROZEN, "feature_cache": cache(tmp_path / "cache")}
    settings = {"model": str(models / "nano"), "data": data}
    train(make_recipe(tmp_path, [stage], **settings), tmp_path / "once")
    assert "lacks 4 of 4 media" in caplog.text and "does not pay in this run" in caplog.text
    caplog.clear()
    train(make_recipe(tmp_path, [stage], **settings), tmp_path / "again")
    assert "lacks 0 of 4 media" in caplog.text and "does not pay" not in caplog.text
    caplog.clear()
    stage |= {"epochs": 2.0, "feature_cache": cache(tmp_path / "other")}
    train(make_recipe(tmp_path, [stage], **settings), tmp_path / "twice")
    assert "does not pay" not in caplog.text


def test_two_processes_equal_one_and_the_first_fills(models, data, tmp_path):
    """Batches of text stand beside batches with pictures, which the other process has."""
    one, two = (
        make_recipe(
            tmp_path,
            [{**FROZEN, "batch_size": size, "steps": 5, "feature_cache": cache(tmp_path / f"cache{size}")}],
            model=str(models / "nano"),
            data=data,
        )
        for size in (4, 2)
    )
    train(one, tmp_path / "one")
    train_on_two(two, tmp_path)
    assert len(list((tmp_path / "cache2").rglob("*.safetensors"))) == 1
    assert largest_difference(weights(tmp_path / "one/model"), weights(tmp_path / "two/model")) < 1e-5
    for a, b in zip(metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
