"""Short answers and letters to exact questions, and instructions that hold for several turns.

- An item with letters for answers (a multiple choice) is right where the answer names the right option, by its letter
  or by its text (`parsing/plain.py`, `option`).
- Another item is right where the answer is one of the golds after `plain`: lower case, digits for number words, no
  leading article, final stop or quotes. `strict` compares the characters.
- An item with `facts.checks` is right where the answer says the gold, names none of `facts.others`, and follows all
  instructions (`parsing/instructions.py`, strictly). The further figures `content` and `follows` are the shares of
  such items that have the gold alone right, and that follow all instructions whatever they say.

`score` is the mean over all items; the mean over each kind stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from mminstruct.errors import DataError
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official
from mminstruct.evaluation.own_files import read_items, read_predictions
from mminstruct.evaluation.parsing.instructions import Instruction, can_check, follows
from mminstruct.evaluation.parsing.letters import lettered
from mminstruct.evaluation.parsing.plain import option, plain, says
from mminstruct.evaluation.scorers.metric import Figures, Metric, Variant, Verdict, each, mean_with_kinds


class Facts(Official):
    """
    Attributes:
        checks: the instructions that hold for this answer.
        others: what an answer with a check must not name.
    """

    checks: tuple[Instruction, ...] = ()
    others: tuple[str, ...] = ()


def facts_of(item: Item) -> Facts:
    """Raises `DataError` with the item's id."""
    try:
        return Facts.model_validate(dict(item.facts))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"facts of {item.id!r}: {place}: {first['msg']}; mend the gold file") from None


def forgiving(text: str, item: Item) -> Verdict:
    facts = facts_of(item)
    if facts.checks:
        return _instructed(text, item, facts)
    if _by_letter(item):
        letters = lettered(item.choices)
        named = option(text, list(letters), item.choices)
        right = any(letters.get(answer) == named for answer in item.answers) if named is not None else False
        return Verdict(float(right), named, parsed=named is not None)
    found = plain(text)
    return Verdict(float(any(found == plain(answer) for answer in item.answers)), found, parsed=bool(found))


def strict(text: str, item: Item) -> Verdict:
    facts = facts_of(item)
    return _instructed(text, item, facts) if facts.checks else Verdict(float(text in item.answers), text)


def _by_letter(item: Item) -> bool:
    return bool(item.choices) and all(answer in lettered(item.choices) for answer in item.answers)


def _instructed(text: str, item: Item, facts: Facts) -> Verdict:
    rest = _without_golds(text, item.answers)
    content = any(says(text, answer) for answer in item.answers) and not any(
        says(rest, other) for other in facts.others
    )
    obeys = all(can_check(check) and follows(text, check) for check in facts.checks)
    return Verdict(
        float(content and obeys), plain(text), parsed=bool(text.strip()), parts=(float(content), float(obeys))
    )


def _without_golds(text: str, golds: Sequence[str]) -> str:
    """So that "light blue" does not name "blue"."""
    lower = text.lower()
    for gold in golds:
        lower = lower.replace(gold.lower(), " , ")
    return lower


def total(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    figures = mean_with_kinds(items, verdicts)
    parts: Any = [verdict.parts for verdict in verdicts if verdict.parts]
    if parts:
        content, obeys = (sum(column) / len(parts) for column in zip(*parts, strict=True))
        figures |= {"content": content, "follows": obeys}
    return figures


METRIC = Metric(
    name="worlds",
    summary="Exact short answers, letters of options, and instructions that hold for several turns.",
    variants=(
        Variant(
            "forgiving", "Case, articles, number words, quotes and final stops do not count.", each(forgiving), total
        ),
        Variant("strict", "Character for character; instructions as before.", each(strict), total),
    ),
    files='JSON lines of {"id", "answers", "choices", "facts"} and of {"id", "prediction"}',
    gold=read_items,
    predictions=read_predictions,
)
