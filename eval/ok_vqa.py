"""OK-VQA (Marino et al., CVPR 2019, arXiv 1906.00067): questions about photographs that need knowledge from elsewhere.

    questions and annotations in VQA's layout, images of COCO ─▶ 5,046 validation questions

The ten answers are five people's, each twice, and stemmed ("ride" for "riding"). OpenFlamingo stems predictions before
it compares them; LLaVA and lmms-eval do not, and neither is it done here (`scorers/okvqa.py` says why), so a model that
answers "riding" is wrong by every scorer below.

LLaVA-1.5 was trained on the training split and published no number. lmms-eval has the line on what is insufficient,
which is VizWiz's, in its prompt.
"""

from __future__ import annotations

from mminstruct.eval.vizwiz import MAY_BE_UNANSWERABLE
from mminstruct.eval.vqa import AFTER_IMAGE, LLAVA_TOKENS, LMMS_EVAL_TOKENS, SHORT_ANSWER
from mminstruct.eval.vqav2 import Vqav2
from mminstruct.evaluation.benchmark import Protocol


class OkVqa(Vqav2):
    name = "ok-vqa"
    summary = "OK-VQA: questions about photographs that need outside knowledge, judged by ten stemmed answers."
    primary_scorer = "okvqa.evalai"
    further_scorers = ("okvqa.official-2021", "okvqa.open-flamingo")
    protocols = (
        Protocol(
            name="llava-1.5",
            source="LLaVA-1.5's prompt for short answers (arXiv 2310.03744), llava/eval/model_vqa_loader.py",
            max_new_tokens=LLAVA_TOKENS,
            prompt=AFTER_IMAGE + SHORT_ANSWER,
        ),
        Protocol(
            name="lmms-eval",
            source="lmms-eval, tasks/ok_vqa/_default_template_vqa_yaml",
            max_new_tokens=LMMS_EVAL_TOKENS,
            stop=("ASSISTANT:",),
            prompt=AFTER_IMAGE + MAY_BE_UNANSWERABLE,
        ),
    )
    licence = "none stated by okvqa.allenai.org that we know of; the images are COCO's, under Flickr's terms"
    data = (
        "OK-VQA v1.1 of okvqa.allenai.org: questions=OpenEnded_mscoco_val2014_questions.json, "
        "annotations=mscoco_val2014_annotations.json, and COCO's images=val2014/"
    )


BENCHMARK = OkVqa

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
