"""COCO captions (Chen et al., arXiv 1504.00325): one sentence on a photograph, by CIDEr against five of people's.

    dataset_coco.json, Karpathy's test split: 5,000 images of val2014, what papers call "COCO Karpathy test"
    captions_val2017.json {"images": [{id, file_name}], "annotations": [...]}: 5,000 images, as lmms-eval has them
        ─▶ Item(image's id, file, references)

CIDEr weighs words by the images it is computed on, so numbers by the two are not comparable. Neither are those by two
protocols: a model that is asked for "a one-sentence caption" writes another sentence than one that is to describe an
image, and CIDEr is a matter of wording.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from pydantic import AliasChoices, Field

from mminstruct.config import Config
from mminstruct.eval.vqa import AFTER_IMAGE
from mminstruct.evaluation import scorers
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol
from mminstruct.evaluation.local_files import Pictures, found
from mminstruct.evaluation.official import Official, json_list, records

LMMS_EVAL = "Provide a one-sentence caption for the provided image."
VLMEVALKIT = (
    "Please describe this image in general. Directly provide the description, "
    'do not include prefix like "This image depicts". '
)


class _Image(Official):
    """An image of COCO's or NoCaps' annotations, or of Karpathy's split files."""

    id: int | str = Field(validation_alias=AliasChoices("cocoid", "id", "filename"))
    name: str = Field(validation_alias=AliasChoices("file_name", "filename"))
    folder: str = Field(default="", validation_alias="filepath")


class CocoCaptions(Benchmark):
    name = "coco-captions"
    summary = "COCO captions: one sentence on a photograph, judged against five by CIDEr."
    primary_scorer = "captions.official"
    further_scorers = ("captions.vlmevalkit",)
    protocols = (
        Protocol(
            name="lmms-eval",
            source="lmms-eval, tasks/coco_cap/utils.py",
            max_new_tokens=64,
            prompt=AFTER_IMAGE + LMMS_EVAL,
        ),
        Protocol(
            name="vlmevalkit",
            source="VLMEvalKit, dataset/image_caption.py, ImageCaptionDataset; length as lmms-eval has it",
            max_new_tokens=64,
            prompt=AFTER_IMAGE + VLMEVALKIT,
        ),
    )
    licence = "captions CC BY 4.0 (cocodataset.org); the images are under Flickr's terms"
    data = (
        "COCO captions: references=dataset_coco.json (Karpathy's splits) with images= the folder that holds val2014/, "
        "or references=captions_val2017.json of cocodataset.org with images=val2017/"
    )

    class Options(Config):
        """The file of reference captions and the folder of images."""

        references: Path
        images: Path

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or an image is missing or not as described."""
        references = found(self.options.references, self.data)
        pictures = Pictures(self.options.images, self.data)
        names = self._names(references)
        for item in scorers.metric("captions").gold(references):
            images = (pictures.named(*names.get(item.id, (item.id,))),)
            yield dataclasses.replace(item, images=images, cluster=item.id)

    def _names(self, references: Path) -> dict[str, tuple[str, ...]]:
        """id -> what the image's file may be called."""
        return {
            str(image.id): tuple(dict.fromkeys((f"{image.folder}/{image.name}".lstrip("/"), image.name)))
            for _, image in records(json_list(references, "images"), _Image)
        }


BENCHMARK = CocoCaptions

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
