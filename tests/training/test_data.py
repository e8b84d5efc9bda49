"""A run's data: mixtures from the recipe to the report; on resume the same data, or what changed is named."""

from __future__ import annotations

import json
import shutil

import pytest

from mminstruct.errors import ConfigError, RunError
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
