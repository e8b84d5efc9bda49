"""What a world knows of one picture, as answers to questions with places to fill.

    "Is the <one> wider than the <other>?" + Fill({"one": "red circle", "other": "blue square"}, "Yes")
      ──fill──▶ ("Is the red circle wider than the blue square?", "Yes")

A world lists its fills by the name of the fact; whoever writes questions names the fact that answers them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mminstruct.errors import DataError

_PLACE = re.compile(r"<([a-z]+)>")


@dataclass(frozen=True)
class Fill:
    """
    Attributes:
        words: what stands in each place.
        answer: the true one: Yes or No, a phrase, or sentences, as the fact has it.
        wrong: false ones of the same kind, all different.
    """

    words: Mapping[str, str]
    answer: str
    wrong: Sequence[str] = ()


@dataclass(frozen=True)
class Known:
    """What is known of one picture.

    Attributes:
        caption: true sentences that say all of it.
        text: lines of text in the picture.
        knowledge: what is known beside the picture, such as its title; may be empty.
        fills: by the fact's name.
    """

    caption: str
    text: Sequence[str] = ()
    knowledge: str = ""
    fills: Mapping[str, Sequence[Fill]] = field(default_factory=dict)


def places(question: str) -> set[str]:
    """The names of the places that a question has."""
    return set(_PLACE.findall(question))


def filled(question: str, fill: Fill) -> str:
    """The question with its places filled."""
    return _PLACE.sub(lambda place: fill.words[place[1]], question)


def judged(words: Mapping[str, str], true: bool) -> Fill:
    """Yes or No."""
    return Fill(words, "Yes" if true else "No")


def draw(
    seeds: Mapping[str, str | None],
    shown: Sequence[str],
    known: Known,
    wanted: Sequence[str | None],
    rng: random.Random,
) -> list[tuple[str, Fill]]:
    """Questions filled with facts, one for each wanted answer (None: any), no two alike.

    Args:
        seeds: all questions, each with its fact.
        shown: those of them that come first, each in turn, before the rest.

    Raises:
        DataError: too little is known.
    """
    rest = [seed for seed in seeds if seed not in shown]
    rng.shuffle(rest)
    queue = [*shown, *rest]
    pools = {seed: list(known.fills.get(seeds.get(seed) or "", ())) for seed in queue}
    for pool in pools.values():
        rng.shuffle(pool)
    drawn: dict[str, Fill] = {}
    for answer in wanted:
        fitting = ((seed, fill) for seed in queue for fill in pools[seed] if answer is None or fill.answer == answer)
        chosen = next(fitting, None)
        if chosen is None:
            raise DataError(
                f"too little is known of the picture for {len(wanted)} questions, so templates cannot write them; "
                "ask a model (--backend openai)"
            )
        seed, fill = chosen
        drawn[filled(seed, fill)] = fill
        # Used up: for this seed what would read the same, for others the same fact. The seed's next turn comes last.
        for other, pool in pools.items():
            pools[other] = [one for one in pool if one is not fill and filled(other, one) not in drawn]
        queue.remove(seed)
        queue.append(seed)
    return list(drawn.items())
