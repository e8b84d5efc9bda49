"""MMMT-IF: programmatic instruction following (PIF) over the turns of a chat whose instructions add up.

    chat: turn 1 [instruction], turn 2, turn 3 [instruction] ...   each answer must follow all instructions given so far
    PIF of an answer = instructions followed / instructions given so far;  score = mean PIF

After arXiv 2409.18216 (no program of it is public, so what the paper leaves open is decided here and said):

- A turn before the first instruction has no PIF and is left out of every figure.
- An empty answer follows nothing; an answer that is missing counts as empty.
- Several answers to a turn may be given. PIF-N-K is the share of turns of which at least K of the N answers have a PIF
  of 1; N is the smallest number of answers of a turn, and of a turn with more the first N count. It never rises with K.
- The mean is over all answers. Figures `turn 1`, `turn 2`, ... are the mean PIF at that turn, counted from 1.
- Sentences, words and numbers: `parsing/instructions.py`, whose instructions a chat may use.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from mminstruct.errors import DataError
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_lines_or_list, record, records, unique, unique_items
from mminstruct.evaluation.parsing.instructions import NOT_CHECKED, Instruction, can_check, follows
from mminstruct.evaluation.scorers.metric import (
    Figures,
    Metric,
    Predictions,
    Variant,
    Verdict,
    missing_is_wrong,
)

MARK = "#"


class Turn(Official):
    """The facts of an item: the instructions up to a turn, and the turn's number from 1."""

    instructions: tuple[Instruction, ...] = ()
    turn: int = 1


def judge_all(items: Sequence[Item], predictions: Predictions) -> list[Verdict]:
    """PIF of each answer; its part is the number of instructions."""
    return [_judge(item, text) for item, text in zip(items, predictions, strict=True)]


def _judge(item: Item, text: str | None) -> Verdict:
    given = _turn(item).instructions
    followed = sum(follows(text or "", instruction) for instruction in given if _must_check(instruction, item))
    pif = followed / len(given) if given else 0.0
    return Verdict(pif, answer=text, parsed=text is not None, parts=(float(len(given)),))


def _must_check(instruction: Instruction, item: Item) -> bool:
    if not can_check(instruction):
        raise DataError(f"item {item.id}: {NOT_CHECKED!r} cannot be checked by program; leave it out")
    return True


def _turn(item: Item) -> Turn:
    return record(f"item {item.id}: facts", dict(item.facts), Turn)


def total(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    """Mean PIF, PIF-N-K for each K, and the mean PIF by turn."""
    by_turn: dict[int, list[float]] = defaultdict(list)
    by_item: dict[str, list[float]] = defaultdict(list)
    for item, verdict in zip(items, verdicts, strict=True):
        if verdict.parts[0]:
            by_turn[_turn(item).turn].append(verdict.score)
            by_item[item.group or item.id].append(verdict.score)
    if not by_item:
        return {"score": None}
    every = [pif for pifs in by_item.values() for pif in pifs]
    answers = min(len(pifs) for pifs in by_item.values())
    whole = [sum(pif == 1 for pif in pifs[:answers]) for pifs in by_item.values()]
    found: Figures = {"score": sum(every) / len(every)}
    for least in range(1, answers + 1):
        found[f"PIF-{answers}-{least}"] = sum(count >= least for count in whole) / len(whole)
    return found | {f"turn {turn}": sum(pifs) / len(pifs) for turn, pifs in sorted(by_turn.items())}


# --- files ------------------------------------------------------------------------------------------------------------


class _ChatTurn(Official):
    question: str = ""
    images: tuple[str, ...] = ()
    instructions: tuple[Instruction, ...] = ()


class _Chat(Official):
    id: int | str
    turns: tuple[_ChatTurn, ...] = Field(min_length=1)


class _Answers(Official):
    id: int | str
    turn: int
    responses: tuple[str, ...] = Field(min_length=1)


def read_chats(path: Path) -> list[Item]:
    """`{id, turns: [{question, instructions: [{id, kwargs}]}]}`: an item for each turn, named `chat/turn`.

    A turn may have `images`, paths within the folder of images, and an instruction a `text`, as it is said.
    """

    def turns() -> Iterator[tuple[str, Item]]:
        for place, chat in records(json_lines_or_list(path), _Chat):
            given: list[Instruction] = []
            earlier: list[str] = []
            for number, turn in enumerate(chat.turns, start=1):
                for instruction in turn.instructions:
                    try:
                        _must_check(instruction, Item(id=f"{chat.id}/{number}"))
                    except DataError as error:
                        raise DataError(f"{place}: turn {number}: {error}") from None
                given += turn.instructions
                listed = [json.loads(one.model_dump_json(exclude_unset=True)) for one in given]
                item = Item(
                    id=f"{chat.id}/{number}",
                    images=tuple(Path(name) for name in turn.images),
                    question=turn.question,
                    facts={"instructions": listed, "turn": number, "new": len(turn.instructions)},
                    cluster=str(chat.id),
                    after=tuple(earlier),
                )
                earlier.append(item.id)
                yield f"{place}: turn {number}", item

    return unique_items(turns())


def read_answers(path: Path) -> dict[str, str]:
    """`{id, turn, responses: [text]}`: `chat/turn#number` -> text."""
    return unique(
        (place, f"{line.id}/{line.turn}{MARK}{number}", text)
        for place, line in records(json_lines_or_list(path), _Answers)
        for number, text in enumerate(line.responses)
    )


def each_answer(items: Sequence[Item], found: Mapping[str, str], path: Path) -> tuple[list[Item], list[str | None]]:
    """An item for each answer to a turn; a turn without one stays, with None."""
    answers: dict[str, list[str]] = defaultdict(list)
    known = {item.id for item in items}
    for name, answer in found.items():
        turn = name if name in known else name.rpartition(MARK)[0] or name
        answers[turn].append(answer)
    missing_is_wrong(items, {name: several[0] for name, several in answers.items()}, path)  # refuses unknown turns
    kept: list[Item] = []
    texts: list[str | None] = []
    for item in items:
        given: list[str | None] = [*answers[item.id]] or [None]
        for number, text in enumerate(given):
            name = f"{item.id}{MARK}{number}"
            kept.append(replace(item, id=name, cluster=item.cluster or item.id, group=item.id))
            texts.append(text)
    return kept, texts


METRIC = Metric(
    name="mmmt-if",
    summary="PIF: share of the instructions given so far in a chat that an answer follows, checked by program.",
    variants=(
        Variant(
            "paper",
            "arXiv 2409.18216, section on PIF and PIF-N-K; no program is public, see the module for what was decided.",
            judge_all,
            total,
        ),
    ),
    files="{id, turns: [{question, instructions: [{id, kwargs}]}]}, and {id, turn, responses: [text]}",
    gold=read_chats,
    predictions=read_answers,
    pairing=each_answer,
)
