"""What of an instance's fields is the answer, and what it is chosen from.

fields ──Answer──▶ [target, other right answers...]      ──Choices──▶ options, the target among them
"""

from __future__ import annotations

import random
import string
from collections import Counter
from typing import Any, Literal

from pydantic import Field

from mminstruct.config import Config
from mminstruct.errors import ConfigError, DataError

LETTERS = string.ascii_uppercase


class Answer(Config):
    """
    Attributes:
        field: which field holds the answer, or a list of answers of several people.
        within: where that is a list of mappings, the key of the answer in each.
        index_of: where the answer is a number, the field with the list that it points into.
        labels: what labels are called in words; an answer without such a word is refused.
        pick: of several answers, the one most people gave, the first, or any.
    """

    field: str = "answer"
    within: str = ""
    index_of: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    pick: Literal["common", "first", "random"] = "common"

    def read(self, fields: dict[str, Any], chance: random.Random, where: str) -> list[str]:
        """The target, then the other answers that count as right. Raises `DataError` where there is none."""
        value = fields.get(self.field)
        if isinstance(value, str) and not self.index_of and not self.labels:  # most of all, and there are many
            found = [value]
        else:
            found = [self._word(one, fields, where) for one in (value if isinstance(value, list) else [value])]
        if not found or not all(found):
            raise DataError(f"{where} has no answer in {self.field!r}; mend or drop the row")
        if len(found) == 1:
            return found
        counts = Counter(found)
        target = found[0]
        if self.pick == "common":
            target = max(counts, key=lambda one: counts[one])  # of equals the first
        elif self.pick == "random":
            target = chance.choice(list(counts))
        return [target, *(one for one in counts if one != target)]

    def _word(self, value: Any, fields: dict[str, Any], where: str) -> str:
        if self.within:
            value = value.get(self.within) if isinstance(value, dict) else None
        if self.index_of:
            choices = fields.get(self.index_of)
            if not isinstance(value, int) or not isinstance(choices, list) or not 0 <= value < len(choices):
                raise DataError(f"{where}: {self.field!r} is {value!r}, which is no place in {self.index_of!r}")
            value = choices[value]
        if self.labels:
            if str(value) not in self.labels:
                raise DataError(f"{where}: {self.field!r} is {value!r}, not one of {', '.join(self.labels)}")
            value = self.labels[str(value)]
        return "" if value is None else " ".join(str(value).split()) if "\n" not in str(value) else str(value).strip()


class Choices(Config):
    """
    Attributes:
        field: which field lists what may be chosen.
        most: so many at most: the right one and others drawn among the rest.
    """

    field: str = "options"
    most: int | None = Field(default=None, ge=2)

    def read(self, fields: dict[str, Any], chance: random.Random, where: str) -> list[str]:
        value = fields.get(self.field)
        if not isinstance(value, list) or not value:
            raise DataError(f"{where} has no list of options in {self.field!r}; mend or drop the row")
        return [str(one) for one in value]


def options_for(
    choices: Choices | list[str] | None, target: str, fields: dict[str, Any], chance: random.Random, where: str
) -> list[str] | None:
    """What may be chosen, in the order in which it is shown. Raises `DataError` where the target is not among it."""
    if choices is None:
        return None
    found = choices if isinstance(choices, list) else choices.read(fields, chance, where)
    if target not in found:
        raise DataError(f"{where}: the answer {target!r} is none of the options {', '.join(found)}; mend the row")
    if isinstance(choices, Choices) and choices.most is not None and len(found) > choices.most:
        others = [one for one in dict.fromkeys(found) if one != target]
        found = [target, *chance.sample(others, min(choices.most - 1, len(others)))]
        chance.shuffle(found)
    if len(found) > len(LETTERS):
        raise DataError(f"{where} has {len(found)} options, and letters for {len(LETTERS)}; set options.most")
    return found


def lettered(options: list[str]) -> str:
    """`(A) left (B) right`."""
    return " ".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))


def slot_names(template: str) -> set[str]:
    """The slots of a template. Raises `ConfigError` where one is more than a name."""
    try:
        found = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise ConfigError(f"the template {template!r} is broken: {error}; write {{{{ for a brace") from None
    for name in sorted(found):
        if not name.isidentifier():
            raise ConfigError(f"the template {template!r} has the slot {{{name}}}; a slot is a plain name")
    return found
