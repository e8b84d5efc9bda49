"""GQA: share of questions whose answer is met exactly, and what the official script measures beside it.

    {tier}_balanced_questions.json {id: {question, answer, imageId, types, groups, entailed, isBalanced, ...}}   gold
    a folder with it and {tier}_choices.json {id: {valid: [...], plausible: [...]}}                               gold
    [{questionId, prediction}], or LLaVA's answers {question_id, text} by lines                                   texts

- `official`: eval.py of the data set (gqadataset.org): `prediction == answer`, character for character, so "Yes" is not
  "yes". Only balanced questions count; the others, where predicted, serve for consistency.
- `llava`: LLaVA's scripts/convert_gqa_for_eval.py before it: full stops at the end deleted, then lower case.
- `lmms-eval`: tasks/gqa/gqa.yaml, exact match without upper case and without string.punctuation, on both sides.
- `vlmevalkit`: vqa_eval.py, method `accuracy`: outer blanks and upper case do not count; a full stop at the end does.

Figures, by the official names: `binary` and `open` (structural type `query` is open), `consistency` (of the right
answers, the share of their entailed questions that are right; only where those are among the items), `validity` and
`plausibility` (only with the choices; where a question's detailed type has "Common" in it the choices are color,
material and shape), `distribution` (chi-square between the answers given and the right ones within each group, over
100; lower is better, and it is no share), and the accuracy by structural and semantic type, by number of reasoning
steps and of words. The official script prints 0 for validity without the choices; here the figure is left out.
`grounding` needs attention maps and scene graphs, and is not computed.
"""

from __future__ import annotations

import math
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mminstruct.errors import DataError
from mminstruct.evaluation.answer_files import texts_by_id
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_object, record, table, unique_items
from mminstruct.evaluation.scorers.metric import Figures, Metric, Variant, Verdict, all_predicted, each

COMMON_CHOICES = ("color", "material", "shape")
NO_STEPS = ("exist", "query: name", "choose name")  # operations that make a question no harder
PUNCTUATION = str.maketrans("", "", string.punctuation)


class _Types(Official):
    detailed: str | None = ""
    semantic: str | None = ""
    structural: str | None = ""


class _Step(Official):
    operation: str
    argument: str | None = ""


class _Question(Official):
    question: str
    answer: str
    imageId: str | int = ""  # noqa: N815 - the official name
    isBalanced: bool = True  # noqa: N815
    types: _Types = _Types()
    groups: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    entailed: tuple[str, ...] = ()
    semantic: tuple[_Step, ...] | None = None


class _Choices(Official):
    valid: tuple[str, ...]
    plausible: tuple[str, ...]


class Facts(Official):
    """What the figures of an item need beside its answer."""

    balanced: bool = True
    group: str | None = None
    entailed: tuple[str, ...] = ()
    steps: int | None = None
    valid: tuple[str, ...] | None = None
    plausible: tuple[str, ...] | None = None


def _facts(item: Item) -> Facts:
    return record(f"the facts of {item.id!r}", dict(item.facts), Facts)


def read_questions(path: Path) -> list[Item]:
    """The items of a questions file, or of a folder with one and, if it is there, the choices."""
    questions, choices = _files(path)
    allowed = {key: record(place, value, _Choices) for key, place, value in json_object(choices)} if choices else {}
    return unique_items(_items(questions, allowed))


def _files(path: Path) -> tuple[Path, Path | None]:
    if not path.is_dir():
        return path, None
    questions, choices = sorted(path.glob("*questions.json")), sorted(path.glob("*choices.json"))
    if len(questions) != 1 or len(choices) > 1:
        raise DataError(f"{path} has {len(questions)} files *questions.json and {len(choices)} *choices.json; give one")
    return questions[0], choices[0] if choices else None


def _items(path: Path, allowed: Mapping[str, _Choices]) -> Iterator[tuple[str, Item]]:
    if path.suffix == ".tsv":
        for place, row in table(path):
            if "index" not in row or "answer" not in row:
                raise DataError(f"{place}: a table needs the columns index and answer")
            yield place, Item(id=row["index"], question=row.get("question", ""), answers=(row["answer"],))
        return
    for name, place, value in json_object(path):
        found = record(place, value, _Question)
        facts: dict[str, Any] = {"balanced": found.isBalanced}
        group = found.groups.get("global")
        if group is not None:
            facts["group"] = str(group)
        if found.entailed:
            facts["entailed"] = list(found.entailed)
        if found.semantic is not None:
            facts["steps"] = sum(not _is_no_step(step) for step in found.semantic)
        if allowed:
            facts |= _allowed(found, allowed.get(name), place)
        yield (
            place,
            Item(
                id=name,
                question=found.question,
                answers=(found.answer,),
                kind=found.types.structural or "",
                detail=found.types.semantic or "",
                cluster=str(found.imageId),
                facts=facts,
            ),
        )


def _is_no_step(step: _Step) -> bool:
    named = f"{step.operation}: {step.argument}"
    return any(part in named for part in NO_STEPS)


def _allowed(question: _Question, choices: _Choices | None, place: str) -> dict[str, Any]:
    if choices is None:
        if not question.isBalanced:
            return {}
        raise DataError(f"{place}: the choices file lacks this question; both must be of one split")
    if "Common" in (question.types.detailed or ""):
        return {"valid": list(COMMON_CHOICES), "plausible": list(COMMON_CHOICES)}
    return {"valid": list(choices.valid), "plausible": list(choices.plausible)}


def pairing(items: Sequence[Item], found: Mapping[str, str], path: Path) -> tuple[list[Item], list[str | None]]:
    """Every balanced question needs a prediction; the others are kept where they have one.

    Predictions of further questions are passed over, as the official script passes over them.
    """
    kept = [item for item in items if item.id in found or _facts(item).balanced]
    known = {item.id for item in kept if item.id in found}
    if not known:
        return all_predicted(kept, found, path)  # none in common: the error names some
    return all_predicted(kept, {name: text for name, text in found.items() if name in known}, path)


def official(text: str) -> str:
    """As it stands."""
    return text


def llava(text: str) -> str:
    """Full stops at the end deleted, lower case."""
    return text.rstrip(".").lower()


def lmms_eval(text: str) -> str:
    """Lower case, punctuation deleted."""
    return text.lower().translate(PUNCTUATION)


def vlmevalkit(text: str) -> str:
    """Blanks around it deleted, lower case."""
    return text.strip().lower()


def _variant(name: str, source: str, clean: Callable[[str], str], clean_gold: Callable[[str], str]) -> Variant:
    def judge(text: str, item: Item) -> Verdict:
        answer = clean(text)
        return Verdict(float(any(answer == clean_gold(gold) for gold in item.answers)), answer=answer)

    return Variant(name, source, each(judge), total)


_Rows = Sequence[tuple[Item, Facts, Verdict]]


def total(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    """Accuracy over the balanced questions, and the official script's other figures."""
    facts = [_facts(item) for item in items]
    rows = [row for row in zip(items, facts, verdicts, strict=True) if row[1].balanced]
    figures: Figures = {"score": _mean([verdict.score for _, _, verdict in rows])}
    if any(item.kind for item, _, _ in rows):
        for name, is_open in (("binary", False), ("open", True)):
            figures[name] = _mean([row[2].score for row in rows if (row[0].kind == "query") == is_open])
    figures |= _consistency(items, rows, verdicts) | _choices(rows) | _distribution(rows)
    return figures | _by_types(rows)


def _by_types(rows: _Rows) -> Figures:
    scores: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for item, fact, verdict in rows:
        if item.kind:
            scores["accuracyPerStructuralType", item.kind, 0].append(verdict.score)
        if item.detail:
            scores["accuracyPerSemanticType", item.detail, 0].append(verdict.score)
        if fact.steps is not None:
            scores["accuracyPerSteps", "", fact.steps].append(verdict.score)
        if item.question:
            scores["accuracyPerLength", "", len(item.question.split())].append(verdict.score)
    return {f"{name} {kind or number}": _mean(found) for (name, kind, number), found in sorted(scores.items())}


def _consistency(items: Sequence[Item], rows: _Rows, verdicts: Sequence[Verdict]) -> Figures:
    score_of = {item.id: verdict.score for item, verdict in zip(items, verdicts, strict=True)}
    shares = []
    for item, fact, verdict in rows:
        entailed = [name for name in fact.entailed if name != item.id]
        if not verdict.score or not entailed:
            continue
        if any(name not in score_of for name in entailed):
            return {}
        shares.append(math.fsum(score_of[name] for name in entailed) / len(entailed))
    return {"consistency": _mean(shares)} if shares else {}


def _choices(rows: _Rows) -> Figures:
    known = [row for row in rows if row[1].valid is not None and row[1].plausible is not None]
    if not known:
        return {}
    return {
        "validity": _mean([float(verdict.answer in (fact.valid or ())) for _, fact, verdict in known]),
        "plausibility": _mean([float(verdict.answer in (fact.plausible or ())) for _, fact, verdict in known]),
    }


def _distribution(rows: _Rows) -> Figures:
    gold: dict[str, Counter[str]] = defaultdict(Counter)
    given: dict[str, Counter[str | None]] = defaultdict(Counter)
    for item, fact, verdict in rows:
        if fact.group is not None:
            gold[fact.group][item.answers[0]] += 1
            given[fact.group][verdict.answer] += 1
    if not gold:
        return {}
    weighted = questions = 0.0
    for group, expected in gold.items():
        size = sum(expected.values())
        weighted += size * math.fsum((given[group][answer] - count) ** 2 / count for answer, count in expected.items())
        questions += size
    return {"distribution": weighted / questions / 100}


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


METRIC = Metric(
    name="gqa",
    summary="GQA accuracy: the answer is met exactly; consistency, validity, plausibility and distribution beside it.",
    variants=(
        _variant("official", "eval.py of the data set: character for character.", official, official),
        _variant(
            "llava",
            "LLaVA, scripts/convert_gqa_for_eval.py and then eval.py: final full stops deleted, lower case.",
            llava,
            official,
        ),
        _variant(
            "lmms-eval",
            "lmms-eval, tasks/gqa: upper case and punctuation do not count, on either side.",
            lmms_eval,
            lmms_eval,
        ),
        _variant(
            "vlmevalkit",
            "VLMEvalKit, vqa_eval.py, accuracy: outer blanks and upper case do not count, full stops do.",
            vlmevalkit,
            vlmevalkit,
        ),
    ),
    files="a questions file, or a folder with it and the choices; [{questionId, prediction}] or LLaVA's answers file",
    gold=read_questions,
    predictions=texts_by_id,
    pairing=pairing,
)
