"""MVBench: 20 tasks on short videos, multiple choice.

    "(B) The cup." ── first word ──▶ "(b)" ── in the gold "(b)", or the other way round? ──▶ 0 or 1

- `official`: OpenGVLab/Ask-Anything, video_chat2/mvbench.ipynb, `check_ans`: the first word of the text (up to the
  first blank), in lower case and without full stops, must be part of "(b)", or hold it. The program begins each answer
  with "(", so it always has one; an empty text is part of "(b)" and therefore right.
- `guarded`: the same in VideoChat2's later scripts and PLLaVA's: a first word without any of a to g is wrong.
- `lmms-eval`: tasks/mvbench/utils.py, `mcq_acc`: a letter with a full stop at the start, else, after the VQA
  normalisation, the first single letter of a to e, in upper or lower case ("a dog" is A). Empty texts are left out.

Figures: each task. `score` is the mean over all questions; the tasks have 200 each.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mminstruct.errors import DataError
from mminstruct.evaluation.figures import mean_of_parts, part_means
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_list, record, records, unique, unique_items
from mminstruct.evaluation.parsing.vqa_normalise import one_line, punctuation
from mminstruct.evaluation.scorers.metric import Figures, Metric, Variant, Verdict, each, mean, only_predicted
from mminstruct.files import read_json

_LETTER_FIRST = re.compile(r"([a-e])\.\s*.+$", re.IGNORECASE)
_LETTER = re.compile(r"\b([a-e])\b")
_GOLD = re.compile(r"\(([A-Z])\)")


def first_word_matches(text: str, letter: str) -> bool:
    """`check_ans`: whether the first word is part of "(b)" or holds it."""
    word, gold = text.lower().split(" ")[0], f"({letter.lower()})"
    return word.replace(".", "") in gold or gold in word


def lmms_eval_answer(text: str) -> str:
    """`mcq_acc`: the letter in upper case, or what is left of the text in lower case."""
    first = _LETTER_FIRST.match(text.strip())
    if first:
        return first[1].upper()
    text = punctuation(one_line(text))
    for mark in "'\")(":
        text = text.strip(mark)
    text = text.strip().lower()
    letter = _LETTER.search(text)
    return letter[1].upper() if letter else text


def _official(text: str, item: Item) -> Verdict:
    return Verdict(float(first_word_matches(text, item.answers[0])), text.split(" ")[0])


def _guarded(text: str, item: Item) -> Verdict:
    word = text.lower().split(" ")[0]
    return _official(text, item) if set(word) & set("abcdefg") else Verdict(0.0, parsed=False)


def _lmms_eval(text: str, item: Item) -> Verdict:
    if text == "":
        return Verdict(0.0, parsed=False)
    answer = lmms_eval_answer(text)
    return Verdict(float(answer == item.answers[0]), answer)


def _tasks(item: Item) -> Iterator[str]:
    if item.kind:
        yield item.kind


def _answered(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    kept = [(item, verdict) for item, verdict in zip(items, verdicts, strict=True) if verdict.parsed]
    items, verdicts = [item for item, _ in kept], [verdict for _, verdict in kept]
    return mean(items, verdicts) | part_means(items, verdicts, _tasks)


total = mean_of_parts(_tasks)

# --- official files ---------------------------------------------------------------------------------------------------


class _Question(Official):
    video: str
    candidates: list[str]
    answer: str
    question: str = ""
    start: float | None = None
    end: float | None = None


class _Result(Official):
    pred: str
    gt: str
    task_type: str = ""


def read_gold(path: Path) -> list[Item]:
    """A task's file [{video, question, candidates, answer}], a folder of them, or results {acc_dict, res_list}.

    A question is called by its task, the file's name, and its place in the file from 0: "action_count/0"; in a file of
    results by its place alone.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix == ".json")
        if not files:
            raise DataError(f"{path} has no .json files; give the folder of the tasks' files")
        return unique_items(entry for file in files for entry in _task(file))
    results = _results(path)
    return unique_items(_task(path) if results is None else (_result_item(*entry) for entry in results))


def _task(file: Path) -> Iterator[tuple[str, Item]]:
    for number, (place, line) in enumerate(records(json_list(file), _Question)):
        if line.answer not in line.candidates:
            raise DataError(f"{place}: answer {line.answer!r} is none of the candidates; give the official file")
        yield (
            place,
            Item(
                id=f"{file.stem}/{number}",
                question=line.question,
                answers=(string.ascii_uppercase[line.candidates.index(line.answer)],),
                kind=file.stem,
                cluster=line.video,
                choices=tuple(line.candidates),
                videos=(Path(line.video),),
                facts={} if line.start is None else {"start": line.start, "end": line.end},
            ),
        )


def _result_item(place: str, name: str, task: str, line: _Result) -> tuple[str, Item]:
    gold = _GOLD.search(line.gt)
    if gold is None:
        raise DataError(f"{place}: gt {line.gt!r} begins with no letter in parentheses; give the official file")
    return place, Item(id=name, answers=(gold[1],), kind=line.task_type or task, cluster=name)


def read_answers(path: Path) -> dict[str, str]:
    """place -> text of a file of results {acc_dict, res_list: [{pred, gt}]}; an object {id: text} serves too."""
    results = _results(path)
    if results is not None:
        return unique((place, name, line.pred) for place, name, _, line in results)
    value = read_json(path)
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise DataError(f"{path} is no file of results {{acc_dict, res_list}}, nor an object {{id: text}}; give one")
    return value


def _results(path: Path) -> list[tuple[str, str, str, _Result]] | None:
    """(place, id, task, entry) of a file of results; None for another file.

    The entries stand task by task, and `acc_dict` says how many each task has: {task: [right, all]}.
    """
    value = read_json(path)
    found = value if isinstance(value, dict) else {"res_list": value}
    entries = found.get("res_list", found.get("result_list"))  # VideoChat2's name, and PLLaVA's
    if not isinstance(entries, list) or (entries and isinstance(entries[0], dict) and "pred" not in entries[0]):
        return None
    counts: dict[str, Any] = found.get("acc_dict", {})
    tasks = [task for task, pair in counts.items() for _ in range(pair[1])] if _are_pairs(counts) else []
    tasks = tasks if len(tasks) == len(entries) else [""] * len(entries)
    places = [f"{path}: entry {number}" for number in range(len(entries))]
    return [
        (place, str(number), task, record(place, entry, _Result))
        for number, (place, task, entry) in enumerate(zip(places, tasks, entries, strict=True))
    ]


def _are_pairs(counts: Any) -> bool:
    return isinstance(counts, dict) and all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], int) for pair in counts.values()
    )


METRIC = Metric(
    name="mvbench",
    summary="Accuracy on MVBench: multiple choice on short videos, by task.",
    variants=(
        Variant(
            "official",
            "OpenGVLab/Ask-Anything, video_chat2/mvbench.ipynb, check_ans: the first word is part of (x), or holds it.",
            each(_official),
            total,
        ),
        Variant(
            "guarded",
            "PLLaVA and later VideoChat2, check_ans: as official, but a first word without a letter a to g is wrong.",
            each(_guarded),
            total,
        ),
        Variant(
            "lmms-eval",
            "lmms-eval, tasks/mvbench/utils.py, mcq_acc: letters anywhere, in any case; empty texts are left out.",
            each(_lmms_eval),
            _answered,
        ),
    ),
    files="the folder of the tasks' files; results {acc_dict, res_list: [{pred, gt}]}, which serve as gold too",
    gold=read_gold,
    predictions=read_answers,
    pairing=only_predicted,
)
