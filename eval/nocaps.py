"""NoCaps (Agrawal et al., ICCV 2019, arXiv 1812.08658): captions of objects that COCO's captions do not name.

    nocaps_val_4500_captions.json {"images": [{id, file_name, domain}], "annotations": [...]}, OpenImages' pictures
        ─▶ 4,500 images, ten captions each; kind: the domain (in, near or out of COCO's)

CIDEr of a domain is the mean over its images with the words' weights of all. The captions of the test split are with
the official server only.
"""

from __future__ import annotations

from mminstruct.eval.coco_captions import LMMS_EVAL, VLMEVALKIT, CocoCaptions
from mminstruct.eval.vqa import AFTER_IMAGE
from mminstruct.evaluation.benchmark import Protocol


class Nocaps(CocoCaptions):
    name = "nocaps"
    summary = "NoCaps: captions of objects that COCO has none of, judged against ten by CIDEr."
    protocols = (
        Protocol(
            name="lmms-eval",
            source="lmms-eval, tasks/nocaps/_default_template_nocaps_yaml",
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
    licence = "captions and images CC BY 2.0 (nocaps.org, OpenImages)"
    data = "NoCaps of nocaps.org: references=nocaps_val_4500_captions.json and images= the folder of OpenImages' files"


BENCHMARK = Nocaps

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
