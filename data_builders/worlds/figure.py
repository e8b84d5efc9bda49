"""A figure of a mathematical world: what is given, what follows from what, and what may be asked.

    givens ──rules──▶ quantities          chain(asked): the rules from the givens to the asked, found backwards from it

A rule names its reason and has a formula over other quantities, `"√({AB}² + {BC}²)"`. Written with names it is the
theorem, written with values the computation. Values are exact, so no rounding is carried on; only what has no exact
form (the sine of 40°) is a float, and then nothing is built upon it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from PIL import Image

from mminstruct.data_builders.worlds.exact import Exact, rounded

Value = Exact | float
_KEY = re.compile(r"\{([^}]+)\}")


@dataclass(frozen=True)
class Given:
    """What a figure states. `text` says it in a sentence's part, `labels` is how the picture shows it."""

    key: str
    text: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """How the quantity `key` follows. The quantities of the formula stand in braces."""

    key: str
    reason: str
    formula: str
    value: Value

    @property
    def needs(self) -> list[str]:
        return list(dict.fromkeys(_KEY.findall(self.formula)))


@dataclass(frozen=True)
class Ask:
    """A question: `phrase` ends "What is ..."; `mark` is how a picture asks it; `tint` is what the picture shades.

    Attributes:
        unit: behind the answer, `°` or nothing.
        tint: (kind, coordinates in pixels): a polygon, a line.
        near: other values that could be taken for the answer.
    """

    key: str
    phrase: str
    mark: str
    unit: str = ""
    tint: tuple[str, tuple[tuple[float, float], ...]] | None = None
    near: tuple[Exact, ...] = ()


@dataclass
class Figure:
    """One picture and all that is known of it.

    Attributes:
        kinds: of the shapes, or the family of the function.
        setting: what is what ("ABCD is a square"), without any number.
        drawn_setting: the same as short lines for a picture that says it itself; empty where it shows it anyway.
        construction: (key of a phrase, its fields) in the order that the figure was built in.
        shown: (text, box in pixels) of all that is written in the picture.
        picture: mode L, ink 0 on 255.
    """

    id: str
    domain: str
    kinds: list[str]
    setting: list[str]
    drawn_setting: list[str]
    construction: list[tuple[str, dict[str, str]]]
    givens: list[Given]
    asks: list[Ask]
    values: dict[str, Value]
    rules: dict[str, Rule]
    names: dict[str, str]
    picture: Image.Image
    points: dict[str, tuple[float, float]]  # labelled points, in the figure's own coordinates, y upwards
    shown: list[tuple[str, tuple[int, int, int, int]]] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)

    def chain(self, asked: str) -> list[Rule]:
        """The rules that lead to a quantity, each behind those that it needs; found backwards from the quantity."""
        order: dict[str, Rule] = {}
        self._walk(asked, order)
        return list(order.values())

    def _walk(self, key: str, order: dict[str, Rule]) -> None:
        rule = self.rules.get(key)
        if rule is None or key in order:
            return
        for need in rule.needs:
            self._walk(need, order)
        order[key] = rule

    def used(self, asked: str) -> set[str]:
        """The keys of the givens that a quantity is computed of."""
        steps = self.chain(asked)
        needed = {need for rule in steps for need in rule.needs} | {asked}
        return {given.key for given in self.givens if given.key in needed}

    def name(self, key: str) -> str:
        return self.names.get(key, key)

    def symbolic(self, rule: Rule) -> str:
        """The rule's formula with the names of its quantities."""
        bare = not any(sign in rule.formula for sign in "×/²")
        return _KEY.sub(lambda match: _bracketed(self.name(match[1]), bare), rule.formula)

    def computed(self, rule: Rule) -> str:
        """The rule's formula with their values."""
        return _KEY.sub(lambda match: _factor(self.values[match[1]]) + "°" * (match[1][0] == "∠"), rule.formula)


class Quantities:
    """Values and rules while a figure is made; a quantity that is known already keeps its first rule."""

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self.rules: dict[str, Rule] = {}
        self.names: dict[str, str] = {}

    def given(self, key: str, value: Exact, name: str = "") -> Exact:
        self.values[key] = value
        if name:
            self.names[key] = name
        return value

    def rule(self, key: str, reason: str, formula: str, value: Value, name: str = "") -> None:
        if key in self.values:
            return
        self.values[key] = value
        self.rules[key] = Rule(key, reason, formula, value)
        if name:
            self.names[key] = name

    def exact(self, key: str) -> Exact:
        value = self.values[key]
        if not isinstance(value, Exact):
            raise TypeError(f"{key} has no exact value")
        return value


def written(value: Value) -> str:
    """A value in exact form, or rounded where it has none."""
    return str(value) if isinstance(value, Exact) else rounded(value)


def _bracketed(name: str, bare: bool) -> str:
    return name if bare or " " not in name else f"({name})"


def _factor(value: Value) -> str:
    """A value within a formula: what is more than a plain number stands in brackets."""
    text = written(value)
    return text if text.replace(".", "").isdigit() else f"({text})"
