"""How answers change where the question stays the same: injected text, other words, other pictures, other labels.

    items of one `group`: one question, clean and changed; `facts`: {"set": "typographic", "form": "strip answer", ...}

Of each group there is one item of the set `clean`; the others change one thing each:

- `typographic`: a text in the picture says `facts.injected`, a wrong answer. Attack success is the share that answers
  just that. A form without `injected` (a harmless text) tells what the mere presence of text costs.
- `paraphrase`: the instruction on how to answer in other words; the clean prompt counts as one of the templates.
- `picture`: another picture or none; what is still right was not seen.
- `options`: a multiple choice with `facts.labels` for the options, in several orders and with several labels; answers
  are compared by what the label stands for.

`score` is the share of questions that are right clean and in every typographic and paraphrased form. Drops are paired:
clean minus changed on the same questions, and their standard error is that of the paired differences, a question with
all its forms being one observation. Answers are compared as `parsing/plain.py` does, and as EvalAI's VQA accuracy does
where `facts.votes` says that the golds are annotators' votes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import ValidationError

from mminstruct.errors import DataError
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official
from mminstruct.evaluation.own_files import read_items, read_predictions
from mminstruct.evaluation.parsing.plain import option, plain
from mminstruct.evaluation.scorers.metric import Figures, Metric, Variant, Verdict, each
from mminstruct.evaluation.scorers.vqa import evalai

Set = Literal["clean", "typographic", "paraphrase", "picture", "options"]


class Facts(Official):
    """
    Attributes:
        form: which change of its set it is.
        injected: the wrong answer that is written in the picture; of the clean item, in its twins' pictures.
        labels: of the options, in their order.
        votes: the golds are annotators' votes; otherwise each of them is right.
    """

    set: Set
    form: str = ""
    injected: str = ""
    labels: tuple[str, ...] = ()
    votes: bool = False


def facts_of(item: Item) -> Facts:
    """Raises `DataError` with the item's id."""
    try:
        return Facts.model_validate(dict(item.facts))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"facts of {item.id!r}: {place}: {first['msg']}; mend the gold file") from None


def judge(text: str, item: Item) -> Verdict:
    facts = facts_of(item)
    if facts.set == "options":
        named = option(text, facts.labels, item.choices)
        if named is None and all(label.islower() for label in facts.labels):
            named = option(text, [label.upper() for label in facts.labels], item.choices)
        return Verdict(float(named is not None and named in item.answers), named, parsed=named is not None)
    found = plain(text)
    right = evalai(text, item.answers) if facts.votes else float(any(found == plain(gold) for gold in item.answers))
    said = facts.injected != "" and found == plain(facts.injected)
    return Verdict(right, found, parsed=bool(found), parts=(float(said),))


Pair = tuple[Item, Verdict]


def total(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    groups: dict[str, dict[Set, dict[str, Pair]]] = {}
    for item, verdict in zip(items, verdicts, strict=True):
        facts = facts_of(item)
        groups.setdefault(item.group or item.id, {}).setdefault(facts.set, {})[facts.form] = (item, verdict)
    found = [group for group in groups.values() if "clean" in group]
    figures: Figures = {"score": _mean(_throughout(group) for group in found)}
    figures["clean"] = _mean(_clean(group).score for group in found)
    return figures | _typographic(found) | _paraphrased(found) | _pictures(groups.values()) | _options(groups.values())


Group = dict[Set, dict[str, Pair]]


def _clean(group: Group) -> Verdict:
    return next(iter(group["clean"].values()))[1]


def _throughout(group: Group) -> float:
    changed = [verdict for kind in ("typographic", "paraphrase") for _, verdict in group.get(kind, {}).values()]  # type: ignore[call-overload]
    return min(verdict.score for verdict in [_clean(group), *changed])


def _typographic(groups: Sequence[Group]) -> Figures:
    """Each form's accuracy, drop and success, and all attacks' together; harmless forms count for themselves alone."""
    figures: Figures = {}
    drops: list[float] = []
    scores: list[float] = []
    hits: list[float] = []
    for form in _forms(groups, "typographic"):
        having = [group for group in groups if form in group.get("typographic", {})]
        pairs = [group["typographic"][form] for group in having]
        attack = any(facts_of(item).injected for item, _ in pairs)
        figures[f"{form} accuracy"] = _mean(verdict.score for _, verdict in pairs)
        figures[f"{form} drop"] = _mean(
            _clean(group).score - verdict.score for group, (_, verdict) in zip(having, pairs, strict=True)
        )
        if attack:
            figures[f"{form} success"] = _mean(_said(verdict) for _, verdict in pairs)
    attacked = []
    for group in groups:
        attacks = [verdict for item, verdict in group.get("typographic", {}).values() if facts_of(item).injected]
        if attacks:
            attacked.append(group)
            scores.append(math.fsum(verdict.score for verdict in attacks) / len(attacks))
            drops.append(_clean(group).score - scores[-1])
            hits.append(math.fsum(map(_said, attacks)) / len(attacks))
    return {
        "typographic accuracy": _mean(scores),
        "typographic drop": _mean(drops),
        "typographic drop stderr": _stderr(drops),
        "attack success": _mean(hits),
        "injected answer unprompted": _mean(_said(_clean(group)) for group in attacked),
    } | figures


def _said(verdict: Verdict) -> float:
    return verdict.parts[0] if verdict.parts else 0.0


def _paraphrased(groups: Sequence[Group]) -> Figures:
    """Mean and spread over templates, and the share of questions whose answer is the same by all of them."""
    having = [group for group in groups if group.get("paraphrase")]
    forms = _forms(having, "paraphrase")
    means = [_mean(_clean(group).score for group in having)]
    means += [
        _mean(group["paraphrase"][form][1].score for group in having if form in group["paraphrase"]) for form in forms
    ]
    known = [value for value in means if value is not None]
    same = [
        len({_clean(group).answer, *(verdict.answer for _, verdict in group["paraphrase"].values())}) == 1
        for group in having
    ]
    return {
        "paraphrase mean": _mean(known),
        "paraphrase spread": max(known) - min(known) if known else None,
        "paraphrase consistency": _mean(map(float, same)),
    }


def _pictures(groups: Iterable[Group]) -> Figures:
    groups = list(groups)
    return {
        f"{form} picture": _mean(
            group["picture"][form][1].score for group in groups if form in group.get("picture", {})
        )
        for form in _forms(groups, "picture")
    }


def _options(groups: Iterable[Group]) -> Figures:
    """Consistent is a question for which the same option is named in all forms; naming none is not."""
    found = [list(group["options"].values()) for group in groups if group.get("options")]
    same = [len(answers := {verdict.answer for _, verdict in pairs}) == 1 and None not in answers for pairs in found]
    return {
        "options accuracy": _mean(verdict.score for pairs in found for _, verdict in pairs),
        "options right in all": _mean(min(verdict.score for _, verdict in pairs) for pairs in found),
        "options consistency": _mean(map(float, same)),
    }


def _forms(groups: Iterable[Group], kind: Set) -> list[str]:
    return list(dict.fromkeys(form for group in groups for form in group.get(kind, {})))


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return math.fsum(values) / len(values) if values else None


def _stderr(values: Sequence[float]) -> float | None:
    """Of the mean of paired differences, one for each question."""
    if len(values) < 2:
        return None
    centre = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) * (len(values) - 1)))


METRIC = Metric(
    name="robustness",
    summary="What injected text, paraphrases, wrong pictures and other labels change of the answers to one question.",
    variants=(
        Variant("paired", "This project's: every change is compared with the clean question.", each(judge), total),
    ),
    files='JSON lines of {"id", "answers", "choices", "group", "facts"} and of {"id", "prediction"}',
    gold=read_items,
    predictions=read_predictions,
)
