"""`mminstruct train --dry-run` says what a run then does: parameters, steps, tokens, and the memory of a process."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mminstruct.cli.app import app
from mminstruct.config import dump_yaml
from mminstruct.errors import DataError
from mminstruct.models.compose import language_model_part
from mminstruct.models.factory import create, read_row
from mminstruct.models.parts import parameter_counts
from mminstruct.models.sizes import size
from mminstruct.training import dry_run as training_dry_run
from mminstruct.training.run import train
from tests.training.conftest import make_recipe
from tests.training.launching import REPOSITORY, fork

WAYS = {"none", "zero1", "zero2", "zero2-offload", "zero3", "zero3-offload"}


def dry_run(*arguments: str) -> list[dict]:
    result = CliRunner().invoke(app, ["train", *arguments, "--dry-run", "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["stages"]


def test_steps_and_tokens_are_those_of_the_run(workspace, tmp_path):
    """Packed behind shared prefixes, padded by groups of length, and an adapter with its own count."""
    lora = {"kind": "lora", "part": "language_model", "rank": 2, "alpha": 4}
    recipe = make_recipe(
        workspace,
        [
            {"pack_tokens": 128, "accumulate": 2, "epochs": 2},
            {"group_by_length": True, "train": ["connector"], "adapters": [lora]},
        ],
    )
    (tmp_path / "recipe.yaml").write_text(dump_yaml(recipe))
    estimates = dry_run(str(tmp_path / "recipe.yaml"), f"data_cache={tmp_path / 'cache'}")
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["recipe.yaml"]
    train(recipe, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    trained = json.loads((tmp_path / "run/trainable.json").read_text())
    for stage, estimate in zip(recipe.stages, estimates, strict=True):
        own = [line for line in lines if line["stage"] == stage.name]
        supervised = [line["supervised_tokens"] for line in own]
        steps = estimate["steps"]
        assert steps["optimizer_steps"] == len(own)
        assert steps["supervised"] == {"mean": pytest.approx(sum(supervised) / len(own)), "most": max(supervised)}
        assert estimate["parts"] == trained[stage.name]
        assert estimate["time"]["step"] > 0 and not estimate["notes"]
        assert set(estimate["memory"]) == (WAYS if not stage.adapters else WAYS - {"zero3", "zero3-offload"})
    padding = [line["padding_share"] for line in lines if line["stage"] == "s1"]
    assert 1 - estimates[1]["steps"]["filled"] == pytest.approx(sum(padding) / len(padding), abs=0.03)
    assert estimates[0]["steps"]["conversations"] == 2 * estimates[0]["steps"]["conversations_per_epoch"] == 48


@pytest.fixture
def seven_billion(tmp_path) -> Path:
    """LLaVA-1.5 7B with its language model's parameters in two layers, which are run sooner than 32."""
    architecture = language_model_part("vicuna-7b-v1.5").language_model["architecture"]
    wide = architecture | {"num_hidden_layers": 2, "intermediate_size": 16 * 16384}
    unknown = {"reason": "made for a test"}
    row = {
        "name": "wide",
        "base": "llava-1.5-7b",
        "language_model": {"part": "vicuna-7b-v1.5", "architecture": wide},
        **dict.fromkeys(("weights", "reported", "measured"), unknown),
    }
    (tmp_path / "wide.yaml").write_text(json.dumps(row))
    return tmp_path / "wide.yaml"


def test_a_recipe_of_7_billion_needs_no_weights_and_no_data(seven_billion, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")  # its data lie nowhere
    align, tune = dry_run("llava-1.5", "--processes", "8", f"model={seven_billion}")
    counts = size(read_row(str(seven_billion))[0]).parameters
    assert counts["language_model"] > 6.7e9
    for stage in (align, tune):
        assert {row["part"]: row["total"] for row in stage["parts"]} == counts
        assert stage["steps"] is None and stage["time"] is None and "not there" in stage["notes"][0]
    learning = counts["connector"] + counts["language_model"]
    assert sum(row["trainable"] for row in tune["parts"]) == learning
    assert tune["memory"]["none"]["optimizer"] == 8 * learning
    assert tune["memory"]["zero2"]["optimizer"] == pytest.approx(12 * learning / 8, rel=1e-6)
    assert tune["memory"]["none"]["activations"] > tune["memory"]["zero2"]["activations"]  # autocast keeps casts
    assert not list(Path().iterdir())


def test_the_quickstart_counts_its_own_data():
    few = ["stages.0.data.options.limit=100", "data.options.limit=100", "data.options.turns=2"]
    stages = dry_run("quickstart", "stages.0.steps=3", "stages.1.steps=2", *few)
    counts = parameter_counts(create("nano")[0])
    for stage, steps, batch in zip(stages, (3, 2), (16, 32), strict=True):
        assert {row["part"]: row["trainable"] for row in stage["parts"]} == counts
        assert stage["steps"]["optimizer_steps"] == steps
        assert stage["steps"]["conversations"] == steps * batch


def test_what_training_refuses_is_refused_alike(workspace, tmp_path):
    recipe = make_recipe(workspace, [{"pack_tokens": 8}])
    with pytest.raises(DataError, match="more than pack_tokens 8") as of_run:
        train(recipe, tmp_path / "run")
    with pytest.raises(DataError) as of_dry_run:
        training_dry_run.dry_run(recipe)
    assert str(of_dry_run.value) == str(of_run.value)


def benchmark(folder: Path) -> None:
    sys.argv = ["memory.py", str(folder), "full fp32"]
    runpy.run_path(str(REPOSITORY / "benchmarks/memory.py"), run_name="__main__")


def test_the_memory_is_what_a_process_takes(tmp_path):
    process = fork(benchmark, tmp_path)
    process.join()
    assert process.exitcode == 0
    row = json.loads((tmp_path / "results.json").read_text())["full fp32"]
    assert row["estimated"]["total"] == pytest.approx(row["measured"], rel=0.15)
