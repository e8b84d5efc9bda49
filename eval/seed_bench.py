"""SEED-Bench (Li et al., CVPR 2024, arXiv 2307.16125): four options on pictures and videos.

    SEED-Bench.json {questions, question_type} ─▶ 14,233 questions on pictures, 5,009 on videos
    SEED-Bench-image/DATA_ID, SEED-Bench-video-image/TYPE_QUESTION.png (the frame in the middle, as LLaVA takes it)

The official program ranks the options by their likelihood; LLaVA lets the model write a letter. A model's scores by the
two are far apart (lmms-eval's PR 47), so choosing the most probable letter is a protocol of its own here. Without
`video_images` the questions on pictures alone are asked: the score is then LLaVA's "image accuracy", not its total.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mminstruct.config import Config
from mminstruct.eval.mmbench import CHOICES, LETTER
from mminstruct.eval.vqa import LLAVA_TOKENS
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol
from mminstruct.evaluation.local_files import Pictures, found
from mminstruct.evaluation.scorers.seed_bench import read_gold


class SeedBench(Benchmark):
    name = "seed-bench"
    summary = "SEED-Bench: multiple choice on pictures, and on the middle frames of videos."
    primary_scorer = "seed-bench.llava"
    further_scorers = ("seed-bench.lmms-eval", "seed-bench.vlmevalkit")
    protocols = (
        Protocol(
            name="llava-1.5",
            source="LLaVA-1.5 (arXiv 2310.03744), scripts/v1_5/eval/seed.sh, llava-seed-bench.jsonl: letters",
            max_new_tokens=LLAVA_TOKENS,
            prompt=CHOICES + LETTER,
        ),
        Protocol(
            name="first-token",
            source="this project: the same prompt, the most probable of the letters; not the official ranking of texts",
            max_new_tokens=1,
            prompt=CHOICES + LETTER,
            first_token=True,
        ),
    )
    licence = "CC BY-NC 4.0 (AILab-CVC/SEED-Bench)"
    data = (
        "SEED-Bench of AILab-CVC: file=SEED-Bench.json, images=SEED-Bench-image/, and for the questions on videos "
        "video_images=SEED-Bench-video-image/ with LLaVA's middle frames (extract_video_frames.py)"
    )

    class Options(Config):
        """The official file, the folder of images, and the folder of the videos' middle frames, if those are asked."""

        file: Path
        images: Path
        video_images: Path | None = None

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where the file or an image is missing or not as described."""
        pictures = Pictures(self.options.images, self.data)
        frames = None if self.options.video_images is None else Pictures(self.options.video_images, self.data)
        for item in read_gold(found(self.options.file, self.data)):
            folder = frames if item.facts.get("data_type") == "video" else pictures
            if folder is not None:
                yield replace(item, images=tuple(folder.named(str(path)) for path in item.images))


BENCHMARK = SeedBench

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
