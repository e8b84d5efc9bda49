"""What an examination over worlds asks: questions with pictures, the right answer and wrong ones, in balance.

    Form(name, make, targets) ── drawn(forms, seed, count) ──▶ Question(text, answers, options, pictures, ...)

`make(seed, number, target, chance)` looks at one figure of a world and asks one question, or none where the figure does
not fit. `drawn` goes through the numbers until there are enough. It keeps guessing by prior at chance: each target
comes equally often, no answer of a form more often than one in as many as there are options, and the right option
stands at each letter equally often, for each target by itself.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from mminstruct.data_builders.worlds.clips import Clip
from mminstruct.errors import DataError

MOST_TRIES = 20_000
NUMBERS = 100_000  # of figures that each form has for itself


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        answers: all that is right; the first is the one that stands among the options.
        wrong: other options.
        worlds: ids of what is shown.
        pictures: in the order in which they are seen.
        clip: of a question about a clip.
        options: the right answer and the wrong ones, in the order of their letters; set by `drawn`.
        told: answers to all pictures but the last one (in-context learning).
        checks: instructions that the answer must follow, as `parsing/instructions.py` reads them.
        later: questions that follow in the same conversation.
    """

    text: str
    answers: tuple[str, ...]
    wrong: tuple[str, ...]
    worlds: tuple[str, ...]
    pictures: tuple[Image.Image, ...] = ()
    clip: Clip | None = None
    options: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    checks: tuple[Mapping[str, Any], ...] = ()
    later: tuple[Question, ...] = ()
    form: str = ""


Make = Callable[[int, int, str, random.Random], Question | None]


@dataclass(frozen=True)
class Form:
    """A way of asking.

    Attributes:
        targets: what `make` is to aim at, each equally often: an answer, the property that is asked for.
        shared: whether it looks at the same numbers as the other forms of its kind.
    """

    name: str
    make: Make
    targets: tuple[str, ...] = ("",)
    shared: bool = False


def drawn(kind: str, forms: Sequence[Form], seed: int, count: int) -> Iterator[Question]:
    """`count` questions of a kind, its forms in turn.

    Raises:
        DataError: a form finds no fitting figure among very many (the world has changed).
    """
    asking = [_of(kind, form, place, seed, len(range(place, count, len(forms)))) for place, form in enumerate(forms)]
    for number in range(count):
        yield next(asking[number % len(forms)])


def _of(kind: str, form: Form, place: int, seed: int, count: int) -> Iterator[Question]:
    chance = random.Random(f"exam/{kind}/{form.name}/{seed}")
    number = 0 if form.shared else place * NUMBERS
    targets = [form.targets[turn % len(form.targets)] for turn in range(count)]
    chance.shuffle(targets)
    given: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    places: dict[str, int] = {}  # where each target's letters begin, so that those of all run on
    for place, target in enumerate(sorted(targets)):
        places.setdefault(target, place)
    for target in targets:
        for _ in range(MOST_TRIES):
            question = form.make(seed, number, target, chance)
            number += 1
            if question is not None and given[question.answers[0]] < _most(count, question):
                break
        else:
            raise DataError(f"{kind}/{form.name}: no figure asks for {target!r}; the world does not fit the question")
        given[question.answers[0]] += 1
        yield _lettered(replace(question, form=form.name), places[target] + seen[target], chance)
        seen[target] += 1


def _most(count: int, question: Question) -> int:
    """How often an answer may be right among `count` questions."""
    return -(-count // (1 + len(question.wrong)))


def _lettered(question: Question, turn: int, chance: random.Random) -> Question:
    """With the right option at the letter whose turn it is."""
    options = chance.sample(question.wrong, len(question.wrong))
    options.insert(turn % (len(options) + 1), question.answers[0])
    return replace(question, options=tuple(options))


def near_numbers(answer: int, others: Sequence[int], chance: random.Random, least: int | None = 0) -> tuple[str, ...]:
    """Three wrong numbers: `others` first, then neighbours; the answer is at any rank among the four alike."""
    pool = list(dict.fromkeys(one for one in others if one != answer))
    chance.shuffle(pool)
    steps = [step for size in (1, 2, 3, 4, 5, 6) for step in chance.sample((size, -size), 2)]
    pool += [answer + step for step in steps if answer + step not in pool]
    pool = [one for one in pool if least is None or one >= least]
    below, above = [one for one in pool if one < answer], [one for one in pool if one > answer]
    lower = min(chance.randint(0, 3), len(below))
    found = below[:lower] + above[: 3 - lower]
    return tuple(str(one) for one in found)
