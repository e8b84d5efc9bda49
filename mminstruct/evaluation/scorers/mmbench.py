"""MMBench and MMBench-CN: options in every rotation, so that a model that likes one letter gains nothing by it.

    text of each rotation ── letter without a judge ──▶ right? ── all rotations of a question right ──▶ 0 or 1

The rule of VLMEvalKit (vlmeval/dataset/utils/multiple_choice.py, `mcq_circular_eval`; vlmeval/utils/matching_util.py,
`can_infer`), which is the official one, in its mode `exact_matching`: where the published score asks a language model
what an answer means, this mode counts it as wrong. Rotations are the rows at index + 1,000,000 k; see
`evaluation/circular.py`.

- `exact-matching`, `exact-matching-2024`: by the two states of `can_infer` (`parsing/letters.py`).
- `vanilla`: only the first order of each question's options counts. Uploading one pass gives this, not CircularEval.
- `lmms-eval`: tasks/mmbench/mmbench_evals.py without an API key. What it cannot read gets a random letter of A to E,
  from one sequence (`rd.seed(2680)`) over the questions by index; a question's first wrong rotation ends it.

Figures: CP, FP-S, FP-C, LR, RR, AR (l2-category) and each category; with several splits, each of them for each split.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from mminstruct.evaluation.circular import by_category, first_passes, judge_letters, options_of
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.option_tables import known_and_predicted, read_predictions, read_questions
from mminstruct.evaluation.parsing.letters import vlmevalkit_letter, vlmevalkit_letter_2024
from mminstruct.evaluation.scorers.metric import Metric, Predictions, Variant, Verdict

SEED = 2680
_GUESSED = "ABCDE"
_AROUND: tuple[tuple[str, str], ...] = (("", "."), ("", ","), ("", ":"), ("", ")"), ("", ")."), ("(", ")"), ("(", ")."))
_AROUND += ((":", ""), (":", ","), (":", "."), (":", ")"), (":", ")."))


def lmms_eval_letter(answer: str, options: Mapping[str, str]) -> str | None:
    """mmbench_evals.py, `can_infer`: the only letter of A to E among the words, then with marks around it, then text.

    An A in a text of more than three words is an article and stops the first step.
    """
    if "Failed to obtain answer via API" not in answer:
        words = answer.split()
        named = [letter for letter in _GUESSED if letter in words]
        if len(named) == 1 and not ("A" in words and len(words) > 3):
            return named[0]
        for before, behind in _AROUND:
            named = [letter for letter in _GUESSED if f"{before}{letter}{behind}" in words]
            if len(named) == 1:
                return named[0]
    lower = answer.lower()
    texts = [letter for letter, text in options.items() if letter in "ABCD" and text.lower() in lower]
    return texts[0] if len(texts) == 1 else None


def _lmms_eval(items: Sequence[Item], predictions: Predictions) -> list[Verdict]:
    chance = random.Random(SEED)
    found: dict[str, Verdict] = {}
    groups: dict[str, list[tuple[Item, str | None]]] = {}
    for item, text in sorted(zip(items, predictions, strict=True), key=lambda pair: _index(pair[0])):
        letter = None if text is None else lmms_eval_letter(text, options_of(item))
        found[item.id] = Verdict(float(letter in item.answers), letter, parsed=letter is not None)
        groups.setdefault(item.group or item.id, []).append((item, letter))
    for group in groups.values():
        if any(letter is not None and letter not in item.answers for item, letter in group):
            continue
        for item, letter in group:
            if letter is None:
                guess = _GUESSED[chance.randint(0, len(_GUESSED) - 1)]
                found[item.id] = Verdict(float(guess in item.answers), guess, parsed=False)
                if guess not in item.answers:
                    break
    return [found[item.id] for item in items]


def _index(item: Item) -> tuple[int, str]:
    return (int(item.id), "") if item.id.isdecimal() else (0, item.id)


METRIC = Metric(
    name="mmbench",
    summary="Accuracy on MMBench: right in every rotation of the options (CircularEval), without a judge.",
    variants=(
        Variant(
            "exact-matching",
            "VLMEvalKit, mcq_circular_eval with exact_matching: what can_infer (2025 on) cannot read is wrong.",
            judge_letters(vlmevalkit_letter),
            by_category(),
        ),
        Variant(
            "exact-matching-2024",
            "The same with can_infer as it was before (commit 18fc37a): a letter anywhere, texts of any length.",
            judge_letters(vlmevalkit_letter_2024),
            by_category(),
        ),
        Variant(
            "vanilla",
            "MMBench's VanillaEval: one pass, the first order of the options; letters as in exact-matching.",
            judge_letters(vlmevalkit_letter),
            by_category(first_passes),
        ),
        Variant(
            "lmms-eval",
            "lmms-eval, tasks/mmbench/mmbench_evals.py without an API key: CircularEval; random letters of seed 2680.",
            _lmms_eval,
            by_category(),
        ),
    ),
    files="the official TSV (or CSV) with answers; a TSV or CSV with a column prediction, or JSON lines of LLaVA",
    gold=read_questions,
    predictions=read_predictions,
    pairing=known_and_predicted,
)
