"""The examples of CONTRIBUTING.md are files that work: each is taken out of the page, put in a folder and used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

import mminstruct
from mminstruct import building
from mminstruct.config import load_yaml, validate
from mminstruct.evaluation.benchmark import load_benchmark
from mminstruct.evaluation.scorers import scorer
from mminstruct.models.factory import read_row
from mminstruct.training.config import Recipe

PAGE = Path(__file__).resolve().parents[1] / "CONTRIBUTING.md"
EXAMPLE = re.compile(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = dict(EXAMPLE.findall(PAGE.read_text(encoding="utf-8")))


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """One example as a file, with two captioned pictures in `pictures` of the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for name in ("red_1", "blue_1"):
        color = name.partition("_")[0]
        Image.new("RGB", (8, 8), color).save(tmp_path / "pictures" / f"{name}.png")
        (tmp_path / "pictures" / f"{name}.txt").write_text(f"a {color} square\n", encoding="utf-8")
    path = tmp_path / Path(request.param).name
    path.write_text(EXAMPLES[request.param], encoding="utf-8")
    return path


def example_in(folder: str) -> pytest.MarkDecorator:
    (found,) = [name for name in EXAMPLES if str(Path(name).parent) == folder]
    return pytest.mark.parametrize("example", [found], indirect=True, ids=[found])


@example_in("model_zoo")
def test_model(example: Path) -> None:
    assert read_row(str(example))[0].name == example.stem
    model, processor = mminstruct.create(str(example), tiny=True)
    assert processor.layout.most_tokens() == model.layout.most_tokens()


@example_in("data_builders")
def test_builder(example: Path, tmp_path: Path) -> None:
    builder = building.load_builder(str(example))
    assert builder.name == example.stem.replace("_", "-")
    manifest = building.run(builder, tmp_path / "built")
    assert (manifest.conversations, manifest.images) == (2, 2)


@example_in("train/recipes")
def test_recipe(example: Path) -> None:
    recipe = validate(Recipe, load_yaml(example), where=str(example))
    assert recipe.name == example.stem
    assert recipe.model in mminstruct.list_models()


@example_in("eval")
def test_benchmark(example: Path) -> None:
    benchmark = load_benchmark(str(example), ["folder=pictures"])
    assert benchmark.name == example.stem.replace("_", "-")
    assert all(scorer(name).variant for name in benchmark.scorer_names)
    blue, red = benchmark.questions()
    assert (blue.answers, red.answers) == (("blue",), ("red",))
    assert benchmark.conversation(red).messages[0].text.endswith(red.question)
