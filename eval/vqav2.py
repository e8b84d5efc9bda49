"""VQA v2 (Goyal et al., CVPR 2017, arXiv 1612.00837): open questions about photographs, ten answers each.

    questions {"data_subtype": "val2014", "questions": [...]}, annotations {"annotations": [...]}, images of COCO
        ─▶ Item(question_id, COCO_val2014_000000262148.jpg, kind: answer type, detail: question type)

The validation split has 214,354 questions on 40,504 images. Published numbers (LLaVA-1.5: 78.5) are of test-dev, whose
answers only the EvalAI server has: they are not comparable with those of this split.

LLaVA sends its answers through EvalAI's steps before it submits them, and the server normalises them again: that is
`vqa.evalai`, the headline. `vqa.official-2021` is the script of the data set's repository.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from mminstruct.config import Config
from mminstruct.eval.vqa import AFTER_IMAGE, LLAVA_TOKENS, SHORT_ANSWER
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol
from mminstruct.evaluation.local_files import Pictures, found
from mminstruct.evaluation.scorers.vqa import read_questions


class Vqav2(Benchmark):
    name = "vqav2"
    summary = "VQA v2: open questions about photographs, judged by ten people's answers."
    primary_scorer = "vqa.evalai"
    further_scorers: ClassVar[tuple[str, ...]] = ("vqa.official-2021", "vqa.lmms-eval", "vqa.vlmevalkit")
    protocols = (
        Protocol(
            name="llava-1.5",
            source="LLaVA-1.5 (arXiv 2310.03744), scripts/v1_5/eval/vqav2.sh, llava/eval/model_vqa_loader.py",
            max_new_tokens=LLAVA_TOKENS,
            prompt=AFTER_IMAGE + SHORT_ANSWER,
        ),
        Protocol(
            name="lmms-eval",
            source="lmms-eval, tasks/vqav2/_default_template_vqav2_yaml",
            max_new_tokens=16,
            prompt=AFTER_IMAGE + SHORT_ANSWER,
        ),
    )
    licence = "annotations CC BY 4.0 (visualqa.org); the images are COCO's, under Flickr's terms"
    data = (
        "VQA v2 of visualqa.org: questions=v2_OpenEnded_mscoco_val2014_questions.json, "
        "annotations=v2_mscoco_val2014_annotations.json, and COCO's images=val2014/"
    )

    class Options(Config):
        """The official files and the folder of images."""

        questions: Path
        annotations: Path
        images: Path

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or an image is missing or not as described."""
        options = self.options
        pictures = Pictures(options.images, self.data)
        split, items = read_questions(found(options.questions, self.data), found(options.annotations, self.data))
        for item in items:
            yield dataclasses.replace(item, images=(pictures.named(coco_name(split, item.cluster)),))


def coco_name(split: str, image_id: str) -> str:
    """COCO's name for an image: `COCO_val2014_000000262148.jpg`."""
    return f"COCO_{split}_{image_id:0>12}.jpg"


BENCHMARK = Vqav2

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
