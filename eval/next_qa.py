"""NExT-QA (Xiao et al., CVPR 2021, arXiv 2105.08276), multiple choice: why, how and when in videos of everyday life.

val.csv or test.csv {video, question, answer, qid, type, a0 ... a4} ─▶ 4,996 or 8,564 questions with five options
videos/VIDEO.mp4, or videos/1164/VIDEO.mp4 by map_vid_vidorID.json {"VIDEO": "1164/VIDEO"}
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
from mminstruct.evaluation.scorers.next_qa import read_gold
from mminstruct.files import read_json


class NextQa(Benchmark):
    name = "next-qa"
    summary = "NExT-QA: why, how, when and what in everyday videos, five options."
    primary_scorer = "next-qa.letters"
    further_scorers = ("next-qa.lmms-eval",)
    protocols = (
        Protocol(
            name="lmms-eval",
            source="lmms-eval, tasks/nextqa, multiple choice: LLaVA's line for letters behind the options",
            max_new_tokens=16,
            prompt=CHOICES + LETTER,
        ),
        Protocol(
            name="first-token",
            source="this project: the same prompt, the most probable of the letters; not comparable with it",
            max_new_tokens=1,
            prompt=CHOICES + LETTER,
            first_token=True,
        ),
    )
    licence = "MIT (doc-doc/NExT-QA); the videos are VidOR's, of YFCC100M, under Creative Commons"
    data = (
        "NExT-QA of doc-doc: file=val.csv or test.csv of the multiple choice, videos=DIR with VIDEO.mp4, or with "
        "VidOR's folders and map=map_vid_vidorID.json"
    )

    class Options(Config):
        """The official file, the folder of videos, and the table of VidOR's folders, where videos lie in these."""

        file: Path
        videos: Path
        map: Path | None = None

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or a video is missing or not as described."""
        videos = Pictures(self.options.videos, self.data, "video")
        folders = self._folders()
        for item in read_gold(found(self.options.file, self.data)):
            mapped = [f"{folders[item.cluster]}.mp4"] if item.cluster in folders else []
            names = [*mapped, *(str(path) for path in item.videos)]
            yield replace(item, question=item.question.strip(), videos=(videos.named(*names),))

    def _folders(self) -> dict[str, str]:
        if self.options.map is None:
            return {}
        value = read_json(found(self.options.map, self.data))
        if not isinstance(value, dict) or not all(isinstance(path, str) for path in value.values()):
            raise DataError(f"{self.options.map} is no object of video and path; give map_vid_vidorID.json")
        return value


BENCHMARK = NextQa

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
