"""Flickr30k captions (Young et al., TACL 2014): one sentence on a photograph, by CIDEr against five of people's.

    dataset_flickr30k.json, Karpathy's test split: 1,000 images, which is what papers report
    results_20130124.token, "image.jpg#0<tab>caption": all images; lmms-eval asks them all, too
        ─▶ Item(image's file name, file, references)

CIDEr weighs words by the images it is computed on, so numbers by the two are not comparable.
"""

from __future__ import annotations

from pathlib import Path

from mminstruct.eval.coco_captions import LMMS_EVAL, VLMEVALKIT, CocoCaptions
from mminstruct.eval.vqa import AFTER_IMAGE
from mminstruct.evaluation.benchmark import Protocol


class Flickr30k(CocoCaptions):
    name = "flickr30k"
    summary = "Flickr30k captions: one sentence on a photograph, judged against five by CIDEr."
    protocols = (
        Protocol(
            name="lmms-eval",
            source="lmms-eval, tasks/flickr30k/flickr30k_test.yaml",
            max_new_tokens=64,
            prompt=AFTER_IMAGE + LMMS_EVAL,
        ),
        Protocol(
            name="vlmevalkit",
            source="VLMEvalKit's prompt for COCO, dataset/image_caption.py; length as lmms-eval has it",
            max_new_tokens=64,
            prompt=AFTER_IMAGE + VLMEVALKIT,
        ),
    )
    licence = "for research and teaching only, under Flickr's terms (shannon.cs.illinois.edu)"
    data = (
        "Flickr30k: references=dataset_flickr30k.json (Karpathy's splits) or results_20130124.token, and "
        "images=flickr30k-images/"
    )

    def _names(self, references: Path) -> dict[str, tuple[str, ...]]:
        return {}  # the images' ids are the names of their files


BENCHMARK = Flickr30k

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
