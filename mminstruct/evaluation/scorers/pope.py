"""POPE: whether a model sees objects that are not there, by yes-no questions; F1 of yes, in three published variants.

    coco_pope_{random, popular, adversarial}.json  lines of {question_id, image, text, label}; those of A-OKVQA and GQA
    are pretty-printed arrays of the same                                                     gold: a file, or a folder
    {question, answer} or {question_id, text} by lines, in the order of the gold file         answers; also a folder

- `official`: evaluate.py of the data set (AoiDragon/POPE), and LLaVA's eval_pope.py. `no`, `No` or `not` among the
  words before the first full stop is a no; *everything else is a yes*, the empty text included. A label counts as yes
  unless it is "no". Where a quotient is 0 / 0 the script stops; here the figure is undefined.
- `lmms-eval`: tasks/pope/utils.py. The text must be yes or no, so "Yes." is wrong; recall leaves out what is neither;
  `yes_ratio` is that of the *labels*; all sets are pooled; 0 / 0 is 0.
- `vlmevalkit`: dataset/utils/yorn.py with exact matching. Exactly one of the words yes and no, anywhere; what has
  neither or both is wrong, and no yes. A row of several categories ("adversarial,popular") counts for each.

`score` is F1, as papers give it (LLaVA: the mean of the three sets). By `official` every figure of several sets is the
mean of the sets' figures, and the sets' own stand beside it; the other two pool. LLaVA pinned an older commit
(e3e39262), whose random set has 2,910 questions; the one of today has 3,000.

The official script joins nothing: it takes both files in their order. Here answers are joined by `question_id` where
both files have the same ids, and by order, set by set, where they have none in common; LLaVA's one file for all sets
has ids from 1 (adversarial), from 10,000,001 (random) and from 20,000,001 (popular).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field

from mminstruct.errors import DataError
from mminstruct.evaluation.answer_files import Answer, answers
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_lines_or_list, records, table, unique, unique_items
from mminstruct.evaluation.parsing.yes_no import first_sentence, only_one, whole
from mminstruct.evaluation.scorers.metric import Figures, JudgeAll, Metric, Predictions, Variant, Verdict, all_predicted

SETS = ("adversarial", "popular", "random")
_SET_OF_FILE = re.compile("|".join(SETS))
_LLAVA_SETS = ("adversarial", "random", "popular")  # by millions of the question's id, over ten
_LLAVA_STEP = 10_000_000
_BY_ORDER = "\n"  # stands in the name of an answer without an id, before its number


class _Question(Official):
    question_id: int | str | None = Field(default=None, validation_alias=AliasChoices("question_id", "index", "id"))
    image: str = Field(default="", validation_alias=AliasChoices("image_path", "image"))
    text: str = Field(default="", validation_alias=AliasChoices("text", "question"))
    label: str = Field(validation_alias=AliasChoices("label", "answer"))
    category: str = ""


def _files(path: Path) -> list[tuple[str, Path]]:
    """(set, file) of a file, or of the files of a folder that are named after a set."""
    if not path.is_dir():
        named = _SET_OF_FILE.search(path.name)
        return [(named[0] if named else "", path)]
    found = []
    for name in SETS:
        files = sorted(file for suffix in ("json", "jsonl") for file in path.glob(f"*{name}*.{suffix}"))
        if len(files) > 1:
            raise DataError(f"{path} has {len(files)} files of the set {name}, {files[0].name} and others; keep one")
        found += [(name, file) for file in files]
    if not found:
        raise DataError(f"{path} has no file *random*.json, *popular*.json or *adversarial*.json")
    return found


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    """Of a table the images themselves, long texts, are left out."""
    if path.suffix != ".tsv":
        return json_lines_or_list(path)
    return ((place, {key: cell for key, cell in row.items() if key != "image"}) for place, row in table(path))


def read_questions(path: Path) -> list[Item]:
    """The items of a set's file, or of a folder of them; `kind` is the set."""
    found = []
    for name, file in _files(path):
        lines = list(records(_entries(file), _Question))
        ids = _names([line.question_id for _, line in lines], [line.category for _, line in lines])
        for (place, line), own in zip(lines, ids, strict=True):
            item = Item(
                id=f"{name}/{own}" if path.is_dir() else own,
                question=line.text,
                answers=(line.label,),
                kind=line.category or name,
                cluster=line.image,
            )
            found.append((place, item))
    return unique_items(found)


def _names(ids: Sequence[int | str | None], categories: Sequence[str]) -> list[str]:
    """The questions' ids where they are told apart by them, else with their category, else by their place."""
    plain = ["" if name is None else str(name) for name in ids]
    for named in (plain, [f"{category}/{name}" for category, name in zip(categories, plain, strict=True)]):
        if all(plain) and len(set(named)) == len(named):
            return named
    return [f"{_BY_ORDER}{number}" for number in range(len(plain))]


def read_answers(path: Path) -> dict[str, str]:
    """Answers by the question's id, or by their place where they have none; those of a folder by their set."""
    found = []
    for name, file in _files(path):
        lines = answers(file)
        ids = _names([line.id or None for line in lines], [_category(line) for line in lines])
        in_folder = f"{name}/" if path.is_dir() else ""
        found += [(line.place, in_folder + own, line.text) for line, own in zip(lines, ids, strict=True)]
    return unique(found)


def _category(line: Answer) -> str:
    found = line.record.get("category", "")
    return found if isinstance(found, str) else ""


def pairing(items: Sequence[Item], found: Mapping[str, str], path: Path) -> tuple[list[Item], list[str | None]]:
    """By id where both files have the same ids, else by order, set by set; see the module's text.

    Raises:
        DataError: the two are not of one data set, as far as ids and numbers tell.
    """
    known = {item.id for item in items}
    if known == set(found):
        return all_predicted(items, found, path)
    if all(name.isdecimal() for name in found) and max(map(int, found)) > _LLAVA_STEP:
        return _by_set(items, _llava_sets(found, path), path)
    if known.isdisjoint(found) or all(_BY_ORDER in name for name in found):
        given: dict[str, list[str]] = defaultdict(list)
        for name, text in found.items():
            given[name.rpartition("/")[0]].append(text)
        if set(given) == {""}:
            return list(items), _equally_many(items, list(found.values()), "", path)
        return _by_set(items, given, path)
    return all_predicted(items, found, path)


def _llava_sets(found: Mapping[str, str], path: Path) -> dict[str, list[str]]:
    given: dict[str, list[str]] = defaultdict(list)
    for name, text in found.items():
        number = int(name) // _LLAVA_STEP
        if number >= len(_LLAVA_SETS):
            raise DataError(f"{path} has the id {name!r}, and LLaVA's of POPE end before 30000000")
        given[_LLAVA_SETS[number]].append(text)
    return given


def _by_set(
    items: Sequence[Item], given: Mapping[str, Sequence[str]], path: Path
) -> tuple[list[Item], list[str | None]]:
    asked: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        asked[item.kind].append(item)
    if not set(asked) <= set(given):
        named = ", ".join(repr(name) for name in asked)
        raise DataError(f"{path} has answers of the sets {', '.join(given)}; those of the gold file are {named}")
    kept = [item for some in asked.values() for item in some]
    return kept, [text for name, some in asked.items() for text in _equally_many(some, given[name], name, path)]


def _equally_many(items: Sequence[Item], texts: Sequence[str], name: str, path: Path) -> list[str | None]:
    if len(items) != len(texts):
        of = f" of the set {name}" if name else ""
        raise DataError(f"{path} has {len(texts)} answers{of} for {len(items)} questions; POPE takes both in one order")
    return list(texts)


def _label(item: Item) -> str:
    return "no" if item.answers[0] == "no" else "yes"


def _any_case(item: Item) -> str:
    return item.answers[0].strip().lower()


def _judge(parse: Callable[[str], str | None], label: Callable[[Item], str]) -> JudgeAll:
    """A verdict whose parts are label yes, yes found and no found: what precision and recall count."""

    def judge_all(items: Sequence[Item], texts: Predictions) -> list[Verdict]:
        verdicts = []
        for item, text in zip(items, texts, strict=True):
            found = None if text is None else parse(text)
            parts = (float(label(item) == "yes"), float(found == "yes"), float(found == "no"))
            verdicts.append(Verdict(float(found == label(item)), answer=found, parsed=found is not None, parts=parts))
        return verdicts

    return judge_all


def _figures(verdicts: Sequence[Verdict], empty: float | None, recall_of_parsed: bool = False) -> Figures:
    """F1, accuracy, precision, recall and ratio of yes; `empty` is the value of 0 / 0."""
    parts = [verdict.parts for verdict in verdicts]
    hits = sum(label * yes for label, yes, _ in parts)
    found = sum(yes for _, yes, _ in parts)
    asked = sum(label * (yes + no) if recall_of_parsed else label for label, yes, no in parts)
    precision = hits / found if found else empty
    recall = hits / asked if asked else empty
    if precision is None or recall is None:
        f1 = None
    else:
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else empty
    return {
        "f1": f1,
        "accuracy": sum(verdict.score for verdict in verdicts) / len(verdicts) if verdicts else None,
        "precision": precision,
        "recall": recall,
        "yes_ratio": found / len(verdicts) if verdicts else None,
    }


def _sets(items: Sequence[Item], verdicts: Sequence[Verdict]) -> dict[str, list[Verdict]]:
    found: dict[str, list[Verdict]] = defaultdict(list)
    for item, verdict in zip(items, verdicts, strict=True):
        for name in item.kind.split(","):
            found[name].append(verdict)
    return dict(sorted(found.items()))


def _beside(sets: Mapping[str, Figures]) -> Figures:
    if len(sets) < 2:
        return {}
    return {f"{name} {key}": value for name, figures in sets.items() for key, value in figures.items()}


def total_official(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    """Each figure's mean over the sets, and the sets' own."""
    sets = {name: _figures(some, None) for name, some in _sets(items, verdicts).items()}
    found: Figures = {}
    for key in ("f1", "accuracy", "precision", "recall", "yes_ratio"):
        values = [figures[key] for figures in sets.values()]
        known = [value for value in values if value is not None]
        found[key] = sum(known) / len(known) if known and len(known) == len(values) else None
    return {"score": found["f1"]} | found | _beside(sets)


def total_lmms_eval(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    """All sets pooled; the ratio of yes is that of the labels."""
    found = _figures(verdicts, 0.0, recall_of_parsed=True)
    found["yes_ratio"] = sum(verdict.parts[0] for verdict in verdicts) / len(verdicts) if verdicts else 0.0
    sets = {name: _figures(some, 0.0, True) for name, some in _sets(items, verdicts).items()}
    for name, some in _sets(items, verdicts).items():
        sets[name]["yes_ratio"] = sum(verdict.parts[0] for verdict in some) / len(some)
    return {"score": found["f1"] if verdicts else None} | found | _beside(sets)


def total_vlmevalkit(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    """All sets pooled, a row once for each of its categories."""
    sets = _sets(items, verdicts)
    found = _figures([verdict for some in sets.values() for verdict in some], 0.0)
    score = found["f1"] if verdicts else None  # of no questions at all nothing is 0
    return {"score": score} | found | _beside({name: _figures(some, 0.0) for name, some in sets.items()})


METRIC = Metric(
    name="pope",
    summary="POPE: F1 of the answer yes to questions on objects that are there or not.",
    variants=(
        Variant(
            "official",
            "AoiDragon/POPE, evaluate.py, and LLaVA, eval_pope.py: a text without no or not is a yes.",
            _judge(first_sentence, _label),
            total_official,
        ),
        Variant(
            "lmms-eval",
            "lmms-eval, tasks/pope: only a bare yes or no counts; sets pooled; yes_ratio is that of the labels.",
            _judge(whole, _any_case),
            total_lmms_eval,
        ),
        Variant(
            "vlmevalkit",
            "VLMEvalKit, yorn.py without a judge: exactly one of yes and no as a word; sets pooled.",
            _judge(only_one, _any_case),
            total_vlmevalkit,
        ),
    ),
    files="a set's file or a folder of the three; answers {question, answer}, {question_id, answer}, or LLaVA's file",
    gold=read_questions,
    predictions=read_answers,
    pairing=pairing,
)
