"""Following instructions on the form of an answer, checked by program, strictly and loosely: IFEval's four figures.

    prompt, its instructions, answer ── each followed? ──▶ prompt-level (all followed), instruction-level accuracy

The headline is the share of prompts all of whose instructions are followed; further figures are the share of
instructions, also by their group ("keywords") and kind ("keywords:existence"). `loose` accepts an answer that follows
an instruction without its first line, its last line, both, or its asterisks. What is checked, and four kinds that
differ from the official program, which needs trained models for them: `parsing/instructions.py`. The variants
`official-strict` and `official-loose` take these models, from langdetect and NLTK, and meet published figures; the
package does not bring them along.

An instruction that cannot be checked (the language of the answer) is left out of the instruction-level figures, and its
prompt out of the prompt-level one; `unchecked` says how many. An empty answer follows nothing.

The official files have no ids: an answer belongs to the prompt that it repeats, and where a prompt has two answers the
last one counts. Answers to other prompts are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from mminstruct.errors import DataError
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_lines_or_list, record, records, unique_items
from mminstruct.evaluation.parsing.ifeval import can_check_officially, follows_officially
from mminstruct.evaluation.parsing.instructions import Instruction, can_check, follows, follows_loosely
from mminstruct.evaluation.scorers.metric import (
    Figures,
    JudgeAll,
    Metric,
    Predictions,
    Variant,
    Verdict,
    all_predicted,
)

UNCHECKED = -1.0


class Instructed(Official):
    """The facts of an item."""

    instructions: tuple[Instruction, ...] = ()


def instructions(item: Item) -> tuple[Instruction, ...]:
    """The instructions of an item. Raises `DataError` where its facts hold something else."""
    return record(f"item {item.id}: facts", dict(item.facts), Instructed).instructions


Check = Callable[[str, Instruction], bool]


def judge(check: Check, checkable: Callable[[Instruction], bool] = can_check) -> JudgeAll:
    """`judge_all` of strict or loose checks. A verdict's parts: for each instruction 1, 0, or -1 where unchecked."""

    def one(item: Item, text: str | None) -> Verdict:
        flags = tuple(
            float(check(text or "", instruction)) if checkable(instruction) else UNCHECKED
            for instruction in instructions(item)
        )
        return Verdict(float(all(flag == 1 for flag in flags)), answer=text, parsed=text is not None, parts=flags)

    def judge_all(items: Sequence[Item], predictions: Predictions) -> list[Verdict]:
        return [one(item, text) for item, text in zip(items, predictions, strict=True)]

    return judge_all


def _official_loose(text: str, instruction: Instruction) -> bool:
    return follows_loosely(text, instruction, follows_officially)


def total(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    """Prompt-level and instruction-level accuracy, and the latter by group and kind of instruction."""
    prompts = [verdict.score for verdict in verdicts if UNCHECKED not in verdict.parts]
    flags: dict[str, list[float]] = defaultdict(list)
    unchecked = 0
    for item, verdict in zip(items, verdicts, strict=True):
        for instruction, flag in zip(instructions(item), verdict.parts, strict=True):
            if flag == UNCHECKED:
                unchecked += 1
                continue
            for name in ("instruction-level", instruction.id.split(":")[0], instruction.id):
                flags[name].append(flag)
    found: Figures = {"score": _mean(prompts), "instruction-level": _mean(flags.pop("instruction-level", []))}
    groups = sorted(name for name in flags if ":" not in name)
    kinds = sorted(name for name in flags if ":" in name)
    return found | {name: _mean(flags[name]) for name in groups + kinds} | {"unchecked": float(unchecked)}


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


class _Prompt(Official):
    key: int | str
    prompt: str
    instruction_id_list: tuple[str, ...] = Field(min_length=1)
    kwargs: tuple[dict[str, Any] | None, ...]


class _Response(Official):
    prompt: str
    response: str


def read_prompts(path: Path) -> list[Item]:
    """IFEval's `input_data.jsonl`. The prompt is the item's id, as the file of responses has no other.

    A prompt that comes twice is called by its key the second time.
    """
    seen: set[str] = set()

    def item(place: str, line: _Prompt) -> Item:
        if len(line.kwargs) != len(line.instruction_id_list):
            named, given = len(line.instruction_id_list), len(line.kwargs)
            raise DataError(f"{place} has {named} instructions and {given} kwargs; give one for each")
        pairs = zip(line.instruction_id_list, line.kwargs, strict=True)
        listed = [{"id": name, "kwargs": kwargs or {}} for name, kwargs in pairs]
        try:
            for entry in listed:
                can_check(Instruction.model_validate(entry))
        except DataError as error:
            raise DataError(f"{place}: {error}") from None
        name = f"{line.prompt}\n({line.key})" if line.prompt in seen else line.prompt
        seen.add(line.prompt)
        return Item(id=name, question=line.prompt, facts={"instructions": listed, "key": line.key})

    return unique_items((place, item(place, line)) for place, line in records(json_lines_or_list(path), _Prompt))


def read_responses(path: Path) -> dict[str, str]:
    """Lines of {prompt, response}: prompt -> response; of several to one prompt the last, as the official program."""
    found = {line.prompt: line.response for _, line in records(json_lines_or_list(path), _Response)}
    if not found:
        raise DataError(f"{path} holds no responses; give lines of {{prompt, response}}")
    return found


def pairing(items: Sequence[Item], found: Mapping[str, str], path: Path) -> tuple[list[Item], list[str | None]]:
    """Every prompt needs a response; responses to other prompts are left out. Raises `DataError` for missing ones."""
    by_prompt = {item.id: found[item.question] for item in items if item.id not in found and item.question in found}
    kept = {item.id: found[item.id] for item in items if item.id in found} | by_prompt
    return all_predicted(items, kept or found, path)


METRIC = Metric(
    name="instruction-following",
    summary="Share of prompts all of whose instructions on form are followed, checked by program.",
    variants=(
        Variant(
            "strict",
            "google-research/instruction_following_eval, evaluation_lib.py: the answer as it stands.",
            judge(follows),
            total,
        ),
        Variant(
            "loose",
            "The same file: also without the first line, the last, both, or asterisks.",
            judge(follows_loosely),
            total,
        ),
        Variant(
            "official-strict",
            "As strict, with the official program's langdetect and NLTK, which must be installed.",
            judge(follows_officially, can_check_officially),
            total,
        ),
        Variant(
            "official-loose",
            "As loose, with the official program's langdetect and NLTK, which must be installed.",
            judge(_official_loose, can_check_officially),
            total,
        ),
    ),
    files="IFEval's input_data.jsonl, and lines of {prompt, response}",
    gold=read_prompts,
    predictions=read_responses,
    pairing=pairing,
)
