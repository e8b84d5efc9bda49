"""InfographicVQA (Mathew et al., WACV 2022, arXiv 2104.12756): questions about infographics, by ANLS.

    infographicsVQA_val_v1.0_withQT.json {"data": [{questionId, question, image_local_name, answers, answer_type, ...}]}
        ─▶ 2,801 validation questions; figures by answer type, evidence and operation

As with DocVQA the answers of the test split are with the competition's server only.
"""

from __future__ import annotations

from mminstruct.eval.docvqa import Docvqa
from mminstruct.eval.vqa import AFTER_IMAGE, SHORT_ANSWER
from mminstruct.evaluation.benchmark import Protocol


class Infovqa(Docvqa):
    name = "infovqa"
    summary = "InfographicVQA: questions about infographics, judged by edit distance."
    protocols = (
        Protocol(
            name="lmms-eval",
            source="lmms-eval, tasks/infovqa/_default_template_infovqa_yaml",
            max_new_tokens=32,
            prompt=AFTER_IMAGE + SHORT_ANSWER,
        ),
    )
    licence = "MIT (so says the list of the MMFM challenge); the infographics belong to their makers"
    data = (
        "InfographicVQA of the Robust Reading Competition (docvqa.org): "
        "questions=infographicsVQA_val_v1.0_withQT.json and images=infographicsvqa_images/; "
        "or VLMEvalKit's questions=InfoVQA_VAL.tsv"
    )


BENCHMARK = Infovqa

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
