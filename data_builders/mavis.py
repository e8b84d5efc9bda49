"""MAVIS' captions and problems of mathematical pictures, without any model (arXiv 2407.08739, sections 3 and 4).

    world ──▶ figure: picture, givens, rules ──▶ caption: construction, then what is marked
                                             └─▶ problem ──▶ text-dominant, text-lite, vision-dominant

A problem asks for a quantity of the figure. Its rationale is the chain of rules from the givens to that quantity, found
backwards from it; every number is computed. Its three variants ask the same and say less and less in words:
text-dominant states all givens, text-lite leaves the sizes to the diagram, vision-dominant leaves the question to it,
too, in a picture of its own. Numbers are exact (12√3, 9π/2); only a result is ever rounded, to two decimals, half up.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mminstruct.building import Builder, Job
from mminstruct.config import Config, load_yaml, validate
from mminstruct.conversation import Conversation, Media, Message, image, message
from mminstruct.data_builders.worlds import analytic, functions, geometry
from mminstruct.data_builders.worlds.canvas import inked, ramp, tinted, with_lines
from mminstruct.data_builders.worlds.exact import Exact, rounded
from mminstruct.data_builders.worlds.figure import Ask, Figure, Rule, Value, written
from mminstruct.data_builders.worlds.scenes import listed

Domain = Literal["geometry", "analytic", "functions"]
Kind = Literal["caption", "problem"]
Variant = Literal["text-dominant", "text-lite", "vision-dominant"]

WORLDS: dict[str, Callable[[int, int], Figure]] = {
    "geometry": geometry.figure,
    "analytic": analytic.figure,
    "functions": functions.figure,
}
PHRASES = Path(__file__).parent / "prompts" / "mavis.yaml"
INKS = ((0, 0, 0), (0, 0, 0), (0, 0, 0), (20, 30, 110), (110, 20, 20), (15, 80, 40), (70, 30, 100))
LETTERS = "ABCD"
LONGEST = 12  # steps of a rationale


class CaptionPhrases(Config):
    questions: dict[str, list[str]]
    start: list[str]
    attach: list[str]
    segment: list[str]
    polygon: list[str]
    circle: list[str]
    ellipse: list[str]
    graph: list[str]
    givens: list[str]


class ProblemPhrases(Config):
    ask: list[str]
    text_dominant: list[str]
    text_lite: list[str]
    vision_dominant: list[str]
    exact: str
    decimal: str
    opening: list[str]
    plan: list[str]
    first: list[str]
    next: list[str]
    last: list[str]
    rounding: str


class Phrases(Config):
    caption: CaptionPhrases
    problem: ProblemPhrases


@functools.cache
def phrases() -> Phrases:
    return validate(Phrases, load_yaml(PHRASES), where=str(PHRASES))


@dataclass(frozen=True)
class Place:
    """A figure that is to be built."""

    id: str
    domain: str
    number: int


@dataclass(frozen=True)
class Problem:
    """A question of a figure in all its forms.

    Attributes:
        answer: as the reply's last line has it: the letter of an option, or the value.
        options: texts of the lettered choices; None for a free answer.
    """

    ask: Ask
    decimal: bool
    value: str
    answer: str
    options: list[str] | None
    rationale: str


class Mavis(Builder[Place]):
    name = "mavis"
    version = "1"
    summary = "MAVIS' captions and step-by-step problems of geometry, coordinates and functions, drawn and solved."
    licence = "Apache-2.0"

    class Options(Config):
        """What is built.

        Args:
            figures: how many; their domains take turns.
            domains: plane geometry, analytic geometry, graphs of functions.
            kinds: a caption of each figure, problems, or both.
            problems: how many at most of each figure.
            variants: each gives a conversation of each problem.
            choices: the share of problems that have lettered choices.
            seed: of the figures.
        """

        figures: int = Field(default=100, ge=1)
        domains: list[Domain] = Field(default=["geometry", "analytic", "functions"], min_length=1)
        kinds: list[Kind] = Field(default=["caption", "problem"], min_length=1)
        problems: int = Field(default=4, ge=1)
        variants: list[Variant] = Field(default=["text-dominant", "text-lite", "vision-dominant"], min_length=1)
        choices: float = Field(default=0.5, ge=0, le=1)
        seed: int = 0

    options: Options

    def items(self) -> Iterator[Place]:
        for number in range(self.options.figures):
            domain = self.options.domains[number % len(self.options.domains)]
            yield Place(f"{domain}/{self.options.seed}/{number}", domain, number)

    def count(self) -> int:
        return self.options.figures

    def make(self, item: Place, job: Job) -> Iterator[Conversation]:
        figure = WORLDS[item.domain](self.options.seed, item.number)
        palette = ramp(job.random.choice(INKS))
        problems = _problems(figure, self.options.problems, self.options.choices, job.random)
        if not problems:
            job.drop("figures without a question")
        shared: Media | None = None
        if "caption" in self.options.kinds or set(self.options.variants) - {"vision-dominant"}:
            shared = job.save(inked(figure.picture, palette), item.id)
        provenance = job.provenance([item.id])
        if "caption" in self.options.kinds and shared is not None:
            question, answer = caption(figure, job.random)
            yield Conversation(
                id=f"mavis/{item.id}/caption",
                messages=[_user(question), message("assistant", answer)],
                media=[shared],
                task="mavis+caption",
                extra={"domain": figure.domain, "kinds": figure.kinds, "figure": figure.facts},
                provenance=provenance,
            )
        if "problem" not in self.options.kinds:
            return
        for number, problem in enumerate(problems):
            questions = _questions(figure, problem, job.random)
            reply = message("assistant", f"{problem.rationale}\nAnswer: {problem.answer}")
            facts = _facts(figure, problem, f"mavis/{item.id}/{number}")
            for variant in self.options.variants:
                media = shared
                if variant == "vision-dominant":
                    drawn = inked(posed(figure, problem.ask)[0], palette)
                    media = job.save(drawn, f"{item.id}-{number}")
                if media is None:
                    raise AssertionError("text-dominant and text-lite have the shared picture")
                yield Conversation(
                    id=f"mavis/{item.id}/{number}/{variant}",
                    messages=[_user(questions[variant]), reply],
                    media=[media],
                    options=problem.options,
                    answers=[problem.answer],
                    task=f"mavis+{variant}",
                    extra=facts,
                    provenance=provenance,
                )


def caption(figure: Figure, rng: random.Random) -> tuple[str, str]:
    """(question, description): the construction in its order, then what is marked."""
    told = phrases().caption
    by_key: dict[str, list[str]] = {
        "start": told.start,
        "attach": told.attach,
        "segment": told.segment,
        "polygon": told.polygon,
        "circle": told.circle,
        "ellipse": told.ellipse,
        "graph": told.graph,
    }
    sentences = [rng.choice(by_key[key]).format(**fields) for key, fields in figure.construction]
    sentences.append(rng.choice(told.givens).format(givens=listed([given.text for given in figure.givens])))
    return rng.choice(told.questions[figure.domain]), " ".join(sentences)


def posed(figure: Figure, ask: Ask) -> tuple[Any, list[tuple[str, tuple[int, int, int, int]]]]:
    """The picture that asks a question itself, and the lines of text beneath the figure."""
    picture = figure.picture if ask.tint is None else tinted(figure.picture, *ask.tint)
    return with_lines(picture, [*figure.drawn_setting, ask.mark])


def _problems(figure: Figure, most: int, choices: float, rng: random.Random) -> list[Problem]:
    """The more steps a quantity needs, the likelier it is asked for; what merely equals a given never is."""
    drawn = []
    for ask in figure.asks:
        steps = figure.chain(ask.key)
        if len(steps) <= LONGEST and not all(map(_bare, steps)):
            drawn.append((rng.random() ** (1 / len(steps)), ask, steps))
    drawn.sort(key=lambda one: (-one[0], one[1].key))
    return [_problem(figure, ask, steps, choices, rng) for _, ask, steps in drawn[:most]]


def _bare(rule: Rule) -> bool:
    """Whether the formula is another quantity and nothing more."""
    return rule.formula.startswith("{") and rule.formula.find("}") == len(rule.formula) - 1


def _problem(figure: Figure, ask: Ask, steps: list[Rule], choices: float, rng: random.Random) -> Problem:
    value = figure.values[ask.key]
    exact = isinstance(value, Exact) and (value.rational or rng.random() < 0.5)
    text = (written(value) if exact else rounded(value)) + ask.unit
    options, answer = None, text
    if rng.random() < choices:
        wrong = _distractors(value, ask, exact, rng)
        if len(wrong) == len(LETTERS) - 1:
            options = [*wrong, text]
            rng.shuffle(options)
            answer = LETTERS[options.index(text)]
    rationale = _rationale(figure, ask, steps, None if exact else text, rng)
    return Problem(ask, not exact, text, answer, options, rationale)


def _distractors(value: Value, ask: Ask, exact: bool, rng: random.Random) -> list[str]:
    """Other values that could be taken for the answer: of the figure's other quantities, and usual slips."""
    right = float(value)
    others: list[Value] = [other for other in ask.near if isinstance(other, Exact)]
    rng.shuffle(others)
    if ask.unit:
        slips: list[Value] = [Exact.of(step) + value for step in (10, -10, 15, -15, 20) if isinstance(value, Exact)]
    elif isinstance(value, Exact):
        slips = [value * 2, value / 2, value * Fraction(3, 2), value * 3, value + 1, value + 2, value - 1]
    else:
        slips = [value * 2, value / 2, value * 1.5, value * 1.1, value * 0.8]
    rng.shuffle(slips)
    signed = ask.tint is None and not ask.unit  # coordinates and coefficients may be negative
    found: dict[str, float] = {}
    for other in [*others[:2], *slips]:
        size = float(other)
        near = any(abs(size - known) < 0.02 * max(1, abs(known)) for known in [right, *found.values()])
        sensible = signed or right <= 0 or 0 < size < (180 if ask.unit else 50 * right)
        text = (written(other) if exact else rounded(other)) + ask.unit
        if not near and sensible and len(found) < len(LETTERS) - 1:
            found[text] = size
    return list(found)


def _rationale(figure: Figure, ask: Ask, steps: list[Rule], decimal: str | None, rng: random.Random) -> str:
    """The steps in words, each with its reason, theorem and numbers."""
    told = phrases().problem
    lines = [rng.choice(told.opening).format(target=ask.phrase)]
    needs = [_the(figure.name(need)) for need in steps[-1].needs if need in figure.rules]
    if len(steps) > 1 and needs and rng.random() < 0.6:
        lines.append(rng.choice(told.plan).format(needs=listed(needs)))
    sentences = []
    for number, rule in enumerate(steps):
        words = told.last if number == len(steps) - 1 else told.next
        lead = rng.choice(told.first if number == 0 and len(steps) > 1 else words) if len(steps) > 1 else ""
        reason = lead + rule.reason
        sentences.append(f"{_upper(reason)}: {equation(figure, rule)}.")
    value = figure.values[ask.key]
    if decimal is not None and isinstance(value, Exact):
        sentences.append(told.rounding.format(exact=written(value) + ask.unit, rounded=decimal))
    return " ".join(lines) + "\n" + "\n".join(sentences)


def equation(figure: Figure, rule: Rule) -> str:
    """`AC = √(AB² + BC²) = √(3² + 4²) = 5`."""
    unit = "°" if rule.key.startswith("∠") else ""
    value = written(rule.value) + unit
    pieces = [figure.name(rule.key), figure.symbolic(rule)]
    computed = figure.computed(rule)
    if computed not in (pieces[-1], value, f"({value})"):
        pieces.append(computed)
    return " = ".join(pieces) + (f" = {value}" if isinstance(rule.value, Exact) else f" ≈ {value}")


def _questions(figure: Figure, problem: Problem, rng: random.Random) -> dict[str, str]:
    told = phrases().problem
    setting = " ".join(f"{_upper(one)}." for one in figure.setting)
    fields = {
        "setting": setting,
        "givens": listed([given.text for given in figure.givens]),
        "ask": rng.choice(told.ask).format(phrase=problem.ask.phrase),
    }
    behind = ""
    if problem.decimal:
        behind = f" {told.decimal}"
    elif problem.options is None and any(sign in problem.value for sign in "√π/"):
        behind = f" {told.exact}"
    if problem.options is not None:
        behind += "\nChoices:" + "".join(
            f"\n{letter}. {option}" for letter, option in zip(LETTERS, problem.options, strict=True)
        )
    return {
        "text-dominant": rng.choice(told.text_dominant).format(**fields) + behind,
        "text-lite": rng.choice(told.text_lite).format(**fields) + behind,
        "vision-dominant": rng.choice(told.vision_dominant) + behind,
    }


def _facts(figure: Figure, problem: Problem, name: str) -> dict[str, Any]:
    return {
        "problem": name,
        "domain": figure.domain,
        "kinds": figure.kinds,
        "asked": problem.ask.key,
        "value": problem.value,
        "givens": [given.text for given in figure.givens],
    }


def _user(question: str) -> Message:
    return message("user", image(), f"\n{question}")


def _the(name: str) -> str:
    return f"the {name}" if " " in name else name


def _upper(text: str) -> str:
    return text[0].upper() + text[1:] if len(text) < 2 or text[1] != "_" else text


BUILDER = Mavis
