"""EgoSchema (Mangalam et al., NeurIPS 2023, arXiv 2308.09126): three minutes through somebody's eyes, five options.

    subset_answers.json {q_uid: number}, questions.json [{q_uid, question, option 0 ... option 4}] beside it
        ─▶ the 500 questions whose answers are public
    videos/Q_UID.mp4

The other 4,531 questions are scored by the authors' server alone, and are not asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mminstruct.config import Config
from mminstruct.errors import DataError
from mminstruct.eval.mmbench import CHOICES, LETTER
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol
from mminstruct.evaluation.local_files import Pictures, found
from mminstruct.evaluation.scorers.egoschema import read_gold


class EgoSchema(Benchmark):
    name = "egoschema"
    summary = "EgoSchema: what somebody does in three minutes, five options; the public part of 500 questions."
    primary_scorer = "egoschema.lmms-eval"
    protocols = (
        Protocol(
            name="lmms-eval",
            source="lmms-eval, tasks/egoschema (egoschema_subset): LLaVA's line for letters behind the options",
            max_new_tokens=16,
            prompt=CHOICES + LETTER,
        ),
    )
    licence = "Ego4D's licence for the videos, MIT for the questions (egoschema/EgoSchema)"
    data = (
        "EgoSchema: file=subset_answers.json with questions.json beside it, and videos=DIR with Q_UID.mp4, by Ego4D's "
        "licence"
    )

    class Options(Config):
        """The official file of public answers and the folder of videos."""

        file: Path
        videos: Path

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or a video is missing or not as described."""
        videos = Pictures(self.options.videos, self.data, "video")
        found(self.options.file.with_name("questions.json"), self.data)
        for item in read_gold(found(self.options.file, self.data)):
            if not item.choices:
                raise DataError(f"questions.json beside {self.options.file} lacks the question {item.id!r}; give both")
            yield replace(item, videos=tuple(videos.named(str(path)) for path in item.videos))


BENCHMARK = EgoSchema

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
