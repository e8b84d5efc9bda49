"""The catalog finds content by its files; every recipe and row of the folders is valid."""

from __future__ import annotations

import pytest

import mminstruct
from mminstruct import catalog
from mminstruct.config import load_yaml, validate
from mminstruct.errors import ConfigError


def test_names_are_file_stems():
    assert {"nano", "llava-1.5-7b", "llava-1.5-13b", "llavar-13b"} <= set(mminstruct.list_models())
    assert mminstruct.list_models("llava-1.5-*") == ["llava-1.5-13b", "llava-1.5-7b"]
    assert "easy-vqa" in catalog.names(catalog.BUILDER)
    assert {"easy-vqa", "vqa"} <= set(catalog.names(catalog.BENCHMARK))


@pytest.mark.parametrize("name", catalog.names(catalog.RECIPE))
def test_every_recipe_is_valid(name):
    """Keys, parts and stages fit; model, builders and benchmarks that it names exist."""
    from mminstruct.training.config import Recipe

    path = catalog.find(catalog.RECIPE, name)
    recipe = validate(Recipe, load_yaml(path), where=str(path))
    assert recipe.name == name
    catalog.find(catalog.MODEL, recipe.model)
    for data in [recipe.data, *(stage.data for stage in recipe.stages if stage.data)]:
        for source in data.sources:
            if source.builder:
                catalog.find(catalog.BUILDER, source.builder)
    for benchmark in recipe.evaluate:
        catalog.find(catalog.BENCHMARK, benchmark)


def test_a_file_of_ones_own_works_by_its_path(tmp_path):
    (tmp_path / "mine.py").write_text("BUILDER = 'found'\n")
    assert catalog.module(catalog.BUILDER, str(tmp_path / "mine.py")).BUILDER == "found"
    with pytest.raises(ConfigError, match="does not exist"):
        catalog.find(catalog.BUILDER, str(tmp_path / "other.py"))


@pytest.mark.parametrize("kind", [catalog.MODEL, catalog.BUILDER, catalog.RECIPE, catalog.BENCHMARK])
def test_unknown_names_get_suggestions(kind):
    known = catalog.names(kind)[0]
    with pytest.raises(ConfigError, match=f"no {kind.label} is called .*Did you mean .*{known}"):
        catalog.find(kind, known + "x")
