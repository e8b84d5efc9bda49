"""OK-VQA: VQA accuracy on questions that need knowledge; files in VQA's layout.

    mscoco_val2014_annotations.json {"annotations": [{..., "answers": [{answer, raw_answer, answer_confidence,
                                                                       answer_id} x 10]}]}

The ten answers are five people's, each twice; `answer` is stemmed and `raw_answer` is what was written. The official
evaluation is VQA's scorer on `answer`, so a prediction that is not stemmed ("riding" for the gold "ride") is wrong.

- `official-2021`, `official-2016`: VQA's scorer, as in `vqa.py`. Nothing stems the prediction.
- `evalai`: lmms-eval's tasks/ok_vqa/utils.py: both sides by EvalAI's steps, annotators by their place, no stemming.
- `open-flamingo`: the scoring part of open_flamingo: both sides by the official steps. Its stemming of predictions
  before (eval/ok_vqa_utils.py) needs a tagger and WordNet, which are data of NLTK's that have to be fetched, and is not
  done here: stem the predictions with it and give the stemmed file.
"""

from __future__ import annotations

from mminstruct.evaluation.scorers.metric import Metric, Variant
from mminstruct.evaluation.scorers.vqa import (
    EVALAI,
    OFFICIAL_2016,
    OFFICIAL_2021,
    by_types,
    by_votes,
    lmms_eval,
    read_annotations,
    read_answers,
)

METRIC = Metric(
    name="okvqa",
    summary="OK-VQA accuracy: agreement with ten stemmed answers, each left out in turn.",
    variants=(
        OFFICIAL_2021,
        OFFICIAL_2016,
        EVALAI,
        Variant(
            "open-flamingo",
            "open_flamingo, eval/vqa_metric.py, on predictions that are stemmed already: both sides normalised.",
            by_votes(lmms_eval),
            by_types,
        ),
    ),
    files="the official annotations file (VQA's layout), and a submission [{question_id, answer}]",
    gold=read_annotations,
    predictions=read_answers,
)
