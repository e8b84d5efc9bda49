"""POPE (Li et al., EMNLP 2023, arXiv 2305.10355): is an object in the picture? Half of those asked for are not.

    coco_pope_{random, popular, adversarial}.json, lines of {question_id, image, text, label}; COCO's val2014
        ─▶ 3 x 3,000 questions on 500 images; kind: the set

Which objects are asked for in vain differs: any, those that are frequent in COCO, or those that go with what is there.
The headline is the mean of the three sets' F1, as LLaVA gives it. Of the 9,000 pairs of image and question 5,127 are
distinct, and each is put to the model once.

Beware of the random set: LLaVA pins commit e3e39262 of POPE, whose random set has 2,910 questions (1,500 yes and 1,410
no); today's has 3,000. Numbers by the two differ, so the older file is read only where `older_random=true` says that
it is meant, and only by that.

The sets on A-OKVQA's and GQA's images are read in the same way.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from mminstruct.config import Config
from mminstruct.errors import DataError
from mminstruct.eval.vqa import AFTER_IMAGE, LLAVA_TOKENS, SHORT_ANSWER
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol
from mminstruct.evaluation.local_files import TABLE, Pictures, found
from mminstruct.evaluation.scorers.pope import read_questions
from mminstruct.evaluation.table_images import with_images_within

OLDER_RANDOM = 2910


class Pope(Benchmark):
    name = "pope"
    summary = "POPE: whether a model sees objects that are not there, by yes-no questions."
    primary_scorer = "pope.official"
    further_scorers = ("pope.lmms-eval", "pope.vlmevalkit", "exact-match")
    protocols = (
        Protocol(
            name="llava-1.5",
            source="LLaVA-1.5 (arXiv 2310.03744), scripts/v1_5/eval/pope.sh; lmms-eval, tasks/pope, is the same",
            max_new_tokens=LLAVA_TOKENS,
            prompt=AFTER_IMAGE + SHORT_ANSWER,
        ),
        Protocol(
            name="bare",
            source="AoiDragon/POPE: the question of the file, with nothing behind it",
            max_new_tokens=LLAVA_TOKENS,
            prompt=AFTER_IMAGE + "{question}",
        ),
    )
    licence = "MIT (AoiDragon/POPE); the images are COCO's, under Flickr's terms"
    data = (
        "POPE of AoiDragon/POPE: questions=output/coco/ (or one set's file), and COCO's images=val2014/, or "
        "VLMEvalKit's questions=POPE.tsv; LLaVA's numbers are by commit e3e39262, "
        "whose random set has 2,910 questions and not 3,000"
    )

    class Options(Config):
        """A folder of the sets or the file of one, and the folder of images.

        A table has its images within: they are written into `cache`, default `FILE.tsv.images`.

        `older_random` says that the random set is that of LLaVA's numbers, with 2,910 questions.
        """

        questions: Path
        images: Path | None = None
        cache: Path | None = None
        older_random: bool = False

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or an image is missing, or the random set is not the one that is meant."""
        questions = found(self.options.questions, self.data, tables=True)
        items = read_questions(questions)
        self._require_meant(items)
        if questions.suffix == TABLE:
            yield from with_images_within(items, questions, self.options.cache)
            return
        pictures = Pictures(self.options.images, self.data)
        for item in items:
            yield dataclasses.replace(item, images=(pictures.named(item.cluster),), question=item.question.strip())

    def _require_meant(self, items: Sequence[Item]) -> None:
        rows = Counter(item.kind for item in items)["random"]
        if rows == OLDER_RANDOM and not self.options.older_random:
            raise DataError(
                f"{self.options.questions}: the random set has 2,910 questions, as in the commit e3e39262 that LLaVA "
                "pins, and today's has 3,000: give today's, or older_random=true to be compared with LLaVA"
            )
        if rows != OLDER_RANDOM and self.options.older_random:
            raise DataError(
                f"{self.options.questions}: older_random=true, but the random set has {rows:,} questions and not 2,910"
            )


BENCHMARK = Pope

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
