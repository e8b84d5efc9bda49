"""Killed at random moments and started again: the same report, and nothing that was kept is generated again."""

from __future__ import annotations

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mminstruct.evaluation.adapters import Adapter
from mminstruct.evaluation.answer_cache import AnswerCache
from mminstruct.evaluation.report import write_report
from mminstruct.evaluation.requests import Keys, Reply, Request
from mminstruct.evaluation.results import run_benchmark
from tests.forking import FORKED

from .conftest import Mixed

KILLS = 12
FILES = ("report.json", "report.html", "predictions.jsonl", "predictions_blank.jsonl")
IDENTITY = {"checkpoint": "a"}


class Slow(Adapter):
    """Answers two questions in some milliseconds, and writes down each that it has answered."""

    def __init__(self, log: Path) -> None:
        self.log = log

    @property
    def identity(self) -> Mapping[str, str]:
        return IDENTITY

    def answer(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, Reply]]]:
        keys = Keys(IDENTITY)
        for first in range(0, len(requests), 2):
            time.sleep(0.004)
            places = range(first, min(first + 2, len(requests)))
            with self.log.open("a") as stream:
                stream.write("".join(f"{keys.key(requests[place])}\n" for place in places))
            yield [(place, Reply(text=keys.key(requests[place])[:6], tokens=6, finish="end")) for place in places]

    def facts(self) -> dict[str, Any]:
        return {"name": "slow"}


def _run(pictures: list[Path], folder: Path) -> None:
    with AnswerCache(folder / "answers.sqlite") as answers:
        adapter = Slow(folder / "log")
        result = run_benchmark(adapter, Mixed(pictures, 60), answers=answers, check=4, folder=folder)
    write_report(folder, [result], model_facts=adapter.facts())


def _kept(folder: Path) -> set[str]:
    if not (folder / "answers.sqlite").exists():
        return set()
    with sqlite3.connect(folder / "answers.sqlite", timeout=60) as connection:
        try:
            return {key for (key,) in connection.execute("SELECT key FROM replies")}
        except sqlite3.OperationalError:  # killed before the table was made
            return set()


def test_killed_and_resumed(pictures: list[Path], tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    _run(pictures, whole)
    generated = (whole / "log").read_text().split()
    draw, asked, kills = random.Random(0), list[str](), 0
    while not (cut / "report.html").exists():
        kept = _kept(cut)
        (cut / "log").write_text("")
        process = FORKED.Process(target=_run, args=(pictures, cut))
        process.start()
        if kills < KILLS:
            wanted = draw.randrange(0, 12)
            while process.is_alive() and len((cut / "log").read_text().split()) < wanted:
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.004))
            process.kill()
            kills += 1
        process.join()
        now = (cut / "log").read_text().split()
        assert not kept & set(now), "what was kept is not asked again"
        asked += now
    assert kills >= 3, "a run that is never killed shows nothing"
    twice = [key for key, times in Counter(asked).items() if times > 1]
    assert len(twice) <= 2 * kills, "only the two of a batch that was not yet kept"
    assert set(asked) == set(generated)
    for name in FILES:
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name
