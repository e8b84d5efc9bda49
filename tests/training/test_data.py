"""A run's data: mixtures from the recipe to the report; on resume the same data, or what changed is named."""

from __future__ import annotations

import json
import shutil

import pytest

from mminstruct.errors import ConfigError, DataError, MediaError, RunError
from mminstruct.training.run import train
from tests.training.conftest import largest_difference, make_recipe, weights, write_dataset
from tests.training.test_exactness import metrics


@pytest.fixture
def two(tmp_path):
    """Recipe settings of two sources of 16 and 9 conversations, whose pictures have the same names."""
    write_dataset(tmp_path / "a", 16, text_only=4, seed=1)
    write_dataset(tmp_path / "b", 9, seed=2)
    return {"mixture": [{"path": str(tmp_path / f"{name}/data.json")} for name in "ab"], "balance": "sqrt"}


def test_a_mixture_trains_and_reports_its_shares(workspace, two, tmp_path):
    recipe = make_recipe(workspace, [{"pack_tokens": 300, "epochs": 2}], data=two)
    train(recipe, tmp_path / "run")
    rows = json.loads((tmp_path / "run/sources.json").read_text())["s0"]
    assert [row["conversations"] for row in rows] == [16, 9]
    assert [row["epoch"]["conversations"] for row in rows] == [14, 11]  # 25 times 4/7 and 3/7
    for name in ("conversations", "tokens", "supervised_tokens"):
        assert sum(row["shares"][name] for row in rows) == pytest.approx(1, abs=1e-3)
        assert all(row["epoch"][name] > 0 for row in rows)
    assert sum(line["supervised_tokens"] for line in metrics(tmp_path / "run")) > 0
    assert sorted(path.name.partition("-")[0] for path in (tmp_path / "run/cache").iterdir()) == [
        "source", "source", "tokens", "tokens",
    ]  # fmt: skip


def test_a_cache_is_shared_by_runs(workspace, two, tmp_path, monkeypatch):
    recipe = make_recipe(workspace, [{"steps": 2}], data=two, data_cache=str(tmp_path / "cache"))
    train(recipe, tmp_path / "one")
    assert not (tmp_path / "one/cache").exists()
    monkeypatch.setattr("mminstruct.data.index._count", None)
    monkeypatch.setattr("mminstruct.formats.read", None)
    train(recipe, tmp_path / "other")
    assert largest_difference(weights(tmp_path / "one/model"), weights(tmp_path / "other/model")) == 0.0


def test_resuming_with_other_data_is_refused(workspace, two, tmp_path):
    recipe = make_recipe(workspace, [{"steps": 4}], data=two, save_every=2)
    train(recipe, tmp_path / "run")
    whole = weights(tmp_path / "run/model")
    shutil.rmtree(tmp_path / "run/model")
    shutil.rmtree(tmp_path / "run/stages/1-s0/checkpoint-4")
    before = (tmp_path / "b/data.json").read_text()
    (tmp_path / "b/data.json").write_text(before.replace("circle", "square"))
    with pytest.raises(RunError, match=r"other data \(stage 's0', .*b/data\.json: \w{64} as content hash then, \w{64}"):
        train(recipe, tmp_path / "run", resume=True)
    (tmp_path / "b/data.json").write_text(json.dumps(json.loads(before)[:-1]))
    with pytest.raises(RunError, match=r"b/data\.json: 9 conversations then, 8 now\); bring them back"):
        train(recipe, tmp_path / "run", resume=True)
    (tmp_path / "b/data.json").write_text(before)
    train(recipe, tmp_path / "run", resume=True)
    assert [line["step"] for line in metrics(tmp_path / "run")] == [1, 2, 3, 4]
    assert largest_difference(whole, weights(tmp_path / "run/model")) == 0.0


def rows(out) -> list[dict]:
    return [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]


def test_broken_conversations_are_left_out_and_reported(workspace, two, tmp_path):
    """A missing file and a broken header are found before the first step; what is left trains as if alone."""
    (tmp_path / "a/5.png").unlink()
    (tmp_path / "b/3.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"conversation '5': the image .*5\.png does not exist; check media_root"):
        train(make_recipe(workspace, [{"steps": 2}], data=two), tmp_path / "no")
    few = {**two, "on_error": "skip", "max_errors": 1}
    with pytest.raises(DataError, match=r"2 of 25 conversations cannot be used, more than max_errors 1 .* '5'"):
        train(make_recipe(workspace, [{"steps": 2}], data=few), tmp_path / "no")
    assert not (tmp_path / "no").exists()
    recipe = make_recipe(workspace, [{"epochs": 2}], data={**two, "on_error": "skip"}, save_every=2)
    train(recipe, tmp_path / "run")
    found = rows(tmp_path / "run")
    assert [(row["id"], row["cause"]) for row in found] == [("5", "media"), ("3", "media")]
    assert "is not a JPEG" in found[1]["why"] and found[1]["source"].endswith("b/data.json")
    sources = json.loads((tmp_path / "run/sources.json").read_text())["s0"]
    assert [row["skipped"]["media"] for row in sources] == [1, 1]
    assert sum(row["epoch"]["conversations"] for row in sources) == 23
    shutil.rmtree(tmp_path / "run/model")
    shutil.copy(tmp_path / "b/2.png", tmp_path / "b/3.png")
    with pytest.raises(RunError, match=r"other data .*b/data\.json: .*'media': 1.* skipped then, .*'media': 0.* now"):
        train(recipe, tmp_path / "run", resume=True)


def test_a_template_leaves_out_what_it_does_not_take(workspace, two, tmp_path):
    stage = {"steps": 1, "chat_template": {"name": "plain"}}
    with pytest.raises(DataError, match="the template 'plain'"):
        train(make_recipe(workspace, [stage], data=two), tmp_path / "no")
    train(make_recipe(workspace, [stage], data={**two, "on_error": "skip"}), tmp_path / "run")
    assert {row["cause"] for row in rows(tmp_path / "run")} == {"template"}


def test_a_picture_that_breaks_when_it_is_decoded_is_named(workspace, two, tmp_path):
    file = tmp_path / "b/3.png"
    file.write_bytes(file.read_bytes()[:60])  # the header is whole
    recipe = make_recipe(workspace, [{}], data={**two, "on_error": "skip"}, workers=1)
    with pytest.raises(MediaError, match=r"^conversation '3': .*broken or truncated PNG"):
        train(recipe, tmp_path / "run")


@pytest.mark.parametrize("rule", ["truncate", "skip"])
def test_too_long_conversations(workspace, two, tmp_path, rule):
    settings = {"max_length": 60}
    with pytest.raises(
        DataError, match=r"conversation '\d+' has \d+ tokens, more than max_length 60; .* data.too_long"
    ):
        train(make_recipe(workspace, [{"steps": 1}], data=two, **settings), tmp_path / "no")
    stage = {"epochs": 3, "pack_tokens": 60}
    train(make_recipe(workspace, [stage], data={**two, "too_long": rule}, **settings), tmp_path / "run")
    sources = json.loads((tmp_path / "run/sources.json").read_text())["s0"]
    assert (sum(row["truncated"] for row in sources) > 0) == (rule == "truncate")
    assert all(row["cause"] == "too_long" for row in (rows(tmp_path / "run") if rule == "skip" else []))
    assert sum(row["skipped"]["too_long"] for row in sources) > 0 or rule == "truncate"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"mixture": []}, "mixture"),
        ({"mixture": [{"path": "a"}], "path": "b"}, "either a mixture or one source"),
        ({"path": "a", "balance": "sqrt"}, "balance is for a mixture"),
        ({"mixture": [{"path": "a", "builder": "b"}]}, "either a path or a builder"),
        ({"mixture": [{"path": "a", "wieght": 2}]}, "Did you mean 'weight'"),
        ({"mixture": [{"path": "a", "cap": 0}]}, "cap"),
        ({"builder": "easy-vqa", "format": "llava"}, "knows its format"),
    ],
)
def test_what_does_not_go_together_is_an_error(workspace, data, words):
    with pytest.raises(ConfigError, match=words):
        make_recipe(workspace, [{}], data=data)
