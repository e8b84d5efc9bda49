"""Benchmarks on miniatures of their official files: what is asked, what is scored, what is refused."""

from __future__ import annotations

import importlib
import pkgutil
import shutil
from pathlib import Path

import pytest

from mminstruct import catalog
from mminstruct.errors import DataError
from mminstruct.evaluation.benchmark import benchmark_class, load_benchmark
from mminstruct.evaluation.results import run_benchmark
from tests.evaluation import miniatures
from tests.evaluation.answering import Table, last_shown
from tests.evaluation.miniatures.miniature import Miniature
from tests.evaluation.test_official_files import ALL as OFFICIAL

NAMES = sorted(module.name for module in pkgutil.iter_modules(miniatures.__path__) if module.name != "miniature")


def written(name: str, folder: Path) -> tuple[str, Miniature]:
    module = importlib.import_module(f"tests.evaluation.miniatures.{name}")
    return name.replace("_", "-"), module.write(folder)


@pytest.mark.parametrize("name", NAMES)
def test_every_question_is_asked_and_scored(name: str, tmp_path: Path) -> None:
    benchmark, small = written(name, tmp_path)
    loaded = load_benchmark(benchmark, small.options)
    assert [item.id for item in loaded.questions()] == list(small.items)
    for item in loaded.questions():
        media = loaded.conversation(item).media
        assert all(Path(medium.path).is_absolute() and Path(medium.path).is_file() for medium in media)
    for replies, score in ((small.perfect, small.best), ({}, small.empty)):
        # A grouped question's rotations have answers of their own, so an adapter that knows no pictures suffices.
        result = run_benchmark(Table(replies), loaded, blank=False)
        assert result.scores[loaded.primary_scorer].score == pytest.approx(score)
        assert result.numbers()["score"] == pytest.approx(score)


@pytest.mark.parametrize("name", NAMES)
def test_prompts_to_the_character(name: str, tmp_path: Path) -> None:
    benchmark, small = written(name, tmp_path)
    assert set(small.prompts) == {protocol.name for protocol in benchmark_class(benchmark).protocols}
    for protocol, (item_id, prompt) in small.prompts.items():
        options = [*small.options, *small.more.get(protocol, ()), f"protocol={protocol}"]
        loaded = load_benchmark(benchmark, options)
        item = next(item for item in loaded.questions() if item.id == item_id)
        request = loaded.request(item, ["(reply)" for _ in item.after])
        assert last_shown(request.conversation) == prompt, protocol
        assert request.max_new_tokens == loaded.protocol.max_new_tokens
        assert bool(request.choices) == loaded.protocol.first_token


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_is_named(name: str, tmp_path: Path) -> None:
    benchmark, small = written(name, tmp_path / "whole")
    loaded = load_benchmark(benchmark, small.options)
    loaded.questions()
    assert small.needed
    for path, message in small.needed.items():
        whole, away = tmp_path / "whole" / path, tmp_path / "away"
        shutil.move(whole, away)
        with pytest.raises(DataError, match=message) as caught:
            loaded.questions()
        assert "\n" not in str(caught.value)
        shutil.move(away, whole)
    loaded.questions()


def test_every_benchmark_is_asked_in_small() -> None:
    """Here, in `test_official_files.py`, in files of their own, or, with data at hand, in `test_benchmarks.py`."""
    small = {name.replace("_", "-") for name in NAMES} | {one.name for one in OFFICIAL}
    assert small | {"easy-vqa", "vqa", "worlds", "robustness", "mm-vet", "llava-bench"} == set(
        catalog.names(catalog.BENCHMARK)
    )
