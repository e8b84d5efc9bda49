"""Video-MME (Fu et al., CVPR 2025, arXiv 2405.21075): 900 videos of up to an hour, three questions each, four options.

    videomme/test-*.parquet, or the authors' template of results as JSON ─▶ 2,700 questions
    data/VIDEO_ID.mp4, subtitle/VIDEO_ID.srt

With subtitles is a benchmark of its own. The authors give those at the sampled frames' times; here, as in lmms-eval's
`full subtitle`, all of a video's subtitles are given, so long videos need a long context (option `subtitle_lines`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from mminstruct.config import Config
from mminstruct.conversation import Conversation
from mminstruct.errors import ConfigError, DataError
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol, one_question
from mminstruct.evaluation.local_files import Pictures, found
from mminstruct.evaluation.scorers.video_mme import read_gold

WITH_SUBTITLES = "with-subtitles"
_ASKED = (
    "Select the best answer to the following multiple-choice question based on the video{0}. Respond with only the "
    "letter (A, B, C, or D) of the correct option.\n{{question}}\n{{choices}}\nThe best answer is:"
)
_TAG = re.compile(r"<[^<>]+>")
_TIME = "-->"


class VideoMme(Benchmark):
    name = "video-mme"
    summary = "Video-MME: multiple choice on short, medium and long videos, with subtitles or without."
    primary_scorer = "video-mme.lmms-eval-2024"
    further_scorers = ("video-mme.official", "video-mme.corrected", "video-mme.vlmevalkit", "video-mme.lmms-eval")
    protocols = (
        Protocol(
            name="without-subtitles",
            source="BradyFU/Video-MME, README, frames alone",
            max_new_tokens=16,
            prompt="\n" + _ASKED.format(""),
        ),
        Protocol(
            name=WITH_SUBTITLES,
            source="BradyFU/Video-MME, README, frames and subtitles; all subtitles, as lmms-eval's `full subtitle`",
            max_new_tokens=16,
            prompt="\nThis video's subtitles are listed below:\n{subtitles}\n" + _ASKED.format(" and the subtitles"),
        ),
    )
    licence = "for academic research only (BradyFU/Video-MME); the videos are YouTube's"
    data = (
        "Video-MME of BradyFU: file=test-00000-of-00001.parquet, or the template of results as JSON, videos=data/ with "
        "VIDEO_ID.mp4, and for the protocol with-subtitles subtitles=subtitle/ with VIDEO_ID.srt"
    )

    class Options(Config):
        """The official file, the folders of videos and subtitles, and how many lines of subtitles are given at most."""

        file: Path
        videos: Path
        subtitles: Path | None = None
        subtitle_lines: int | None = Field(default=None, ge=1)

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or a video is missing, `ConfigError` where the folder of subtitles is."""
        videos = Pictures(self.options.videos, self.data, "video")
        with_subtitles = self.protocol.name == WITH_SUBTITLES
        if with_subtitles and self.options.subtitles is None:
            raise ConfigError(f"{self.name}: the protocol {WITH_SUBTITLES} needs subtitles=DIR with VIDEO_ID.srt")
        for item in read_gold(found(self.options.file, self.data)):
            stems = [path.stem for path in item.videos]
            if not stems or len(item.choices) < 2:
                raise DataError(
                    f"{self.options.file}: question {item.id!r} has no video or no options; give the official file"
                )
            facts = dict(item.facts)
            if with_subtitles and self.options.subtitles is not None:
                facts["subtitles"] = self._subtitles(found(self.options.subtitles, self.data) / f"{stems[0]}.srt")
            names = [f"{stem}.{ending}" for stem in stems for ending in ("mp4", "MP4", "mkv")]
            yield replace(item, videos=(videos.named(*names),), facts=facts)

    def _subtitles(self, file: Path) -> str:
        """The lines of a file; a video without speech has none."""
        if not file.is_file():
            return "No subtitles available"
        return "\n".join(subtitle_lines(file)[: self.options.subtitle_lines])

    def conversation(self, item: Item) -> Conversation:
        before, place, behind = self.protocol.prompt.partition("{subtitles}")
        asked = behind if place else before
        asked = asked.replace("{choices}", "\n".join(_lines(item))).replace("{question}", item.question)
        return one_question(item, before + str(item.facts.get("subtitles", "")) + asked if place else asked)


def _lines(item: Item) -> list[str]:
    return [f"{letter}. {text}" for letter, text in zip("ABCD", item.choices, strict=False)]


def subtitle_lines(file: Path) -> list[str]:
    """The texts of an SRT file, one for each entry, without tags. Raises `DataError` where it is not UTF-8."""
    try:
        blocks = file.read_text(encoding="utf-8-sig").replace("\r\n", "\n").split("\n\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text ({error.reason}); save it as UTF-8") from None
    texts = []
    for block in blocks:
        lines = block.strip("\n").split("\n")
        times = next((number for number, line in enumerate(lines) if _TIME in line), None)
        if times is not None:
            texts.append(_TAG.sub("", " ".join(lines[times + 1 :])).strip())
    return [text for text in texts if text]


BENCHMARK = VideoMme

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
