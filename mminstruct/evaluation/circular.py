"""CircularEval: a question is right only if it is right in every rotation of its options (MMBench, section 4).

    verdicts of index, index + 1e6, index + 2e6 ... ── all right? ──▶ one hit or none ── mean over questions ──▶ score

Rotations that are not predicted are not asked for, so a file with one pass gives the plain accuracy ("VanillaEval").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from mminstruct.evaluation.figures import part_means
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.parsing.letters import lettered
from mminstruct.evaluation.scorers.metric import Figures, JudgeAll, Total, Verdict, each, mean

Letter = Callable[[str, Mapping[str, str]], str | None]
NAMES: Mapping[str, str] = {
    "coarse_perception": "CP",
    "finegrained_perception (instance-level)": "FP-S",
    "finegrained_perception (cross-instance)": "FP-C",
    "logic_reasoning": "LR",
    "relation_reasoning": "RR",
    "attribute_reasoning": "AR",
}
"""MMBench's categories as VLMEvalKit's tables call them."""


def judge_letters(read: Letter) -> JudgeAll:
    """A verdict on each rotation by itself: the letter that `read` finds, wrong where it finds none."""

    def judge(text: str, item: Item) -> Verdict:
        found = read(text, options_of(item))
        return Verdict(float(found in item.answers), found, parsed=found is not None)

    return each(judge)


def options_of(item: Item) -> dict[str, str]:
    """The options by letter, without those that are empty."""
    return {letter: text for letter, text in lettered(item.choices).items() if text}


def questions(items: Sequence[Item], verdicts: Sequence[Verdict]) -> tuple[list[Item], list[Verdict]]:
    """One item and one verdict a question: the first rotation there is, and whether all there are are right."""
    groups: dict[str, list[tuple[Item, Verdict]]] = {}
    for item, verdict in zip(items, verdicts, strict=True):
        groups.setdefault(item.group or item.id, []).append((item, verdict))
    firsts = [next((item for item, _ in group if item.id == name), group[0][0]) for name, group in groups.items()]
    hits = [Verdict(float(all(verdict.score == 1 for _, verdict in group))) for group in groups.values()]
    return firsts, hits


def first_passes(items: Sequence[Item], verdicts: Sequence[Verdict]) -> tuple[list[Item], list[Verdict]]:
    """The questions with their options in the first order, as asked in one pass."""
    kept = [
        (item, verdict) for item, verdict in zip(items, verdicts, strict=True) if item.id == (item.group or item.id)
    ]
    return [item for item, _ in kept], [verdict for _, verdict in kept]


Select = Callable[[Sequence[Item], Sequence[Verdict]], tuple[list[Item], list[Verdict]]]


def by_category(select: Select = questions) -> Total:
    """The mean over the questions of `select`, then each category's; with several splits, each split's too.

    VLMEvalKit prints a row for each split and none for all; `score` is the mean over all questions.
    """

    def total(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
        kept, hits = select(items, verdicts)
        splits = {str(item.facts.get("split", "")) for item in kept}

        def parts(item: Item) -> Iterable[str]:
            names = _categories(item)
            if len(splits) <= 1:
                return names
            return [f"{name} ({item.facts.get('split', 'none')})" for name in ("Overall", *names)]

        return mean(kept, hits) | part_means(kept, hits, parts)

    return total


def _categories(item: Item) -> list[str]:
    found = [item.facts.get("l2-category"), item.facts.get("category") or item.kind]
    return [NAMES.get(str(name), str(name)) for name in found if name]
