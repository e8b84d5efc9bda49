"""ST-VQA (Biten et al., ICCV 2019, arXiv 1905.13648): questions about text in scenes, by ANLS.

    train_task_3.json {"data": [{question_id, question, file_path: "coco-text/COCO_....jpg", answers, ...}]}

The test splits' answers are with the server of the Robust Reading Competition only. What can be scored here is a part
of train_task_3.json that the model was not trained on, and many models were trained on all of it.

`anls.stvqa-paper` is the paper's formula, which gives nothing for exactly one half; the server's script does.
"""

from __future__ import annotations

from mminstruct.eval.docvqa import Docvqa
from mminstruct.eval.vqa import AFTER_IMAGE, SHORT_ANSWER
from mminstruct.evaluation.benchmark import Protocol


class StVqa(Docvqa):
    name = "st-vqa"
    summary = "ST-VQA: questions about text in scenes, judged by edit distance."
    further_scorers = ("anls.stvqa-paper", "anls.mmf", "exact-match")
    protocols = (
        Protocol(
            name="lmms-eval",
            source="lmms-eval, tasks/stvqa/stvqa.yaml",
            max_new_tokens=32,
            prompt=AFTER_IMAGE + SHORT_ANSWER,
        ),
    )
    licence = "none stated; the images are of seven public sets, each under its own terms"
    data = (
        "ST-VQA of the Robust Reading Competition (rrc.cvc.uab.es): questions=train_task_3.json or a part of it, and "
        "images= the folder that holds coco-text/, vizwiz/, ..."
    )


BENCHMARK = StVqa

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
