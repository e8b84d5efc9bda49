"""ScienceQA: school questions with two to five options; a part of them has a picture (IMG).

    text ── a rule ──▶ letter ── the gold option's? ──▶ 0 or 1

- `official`: lupantech/ScienceQA, models/run_gpt3.py. The letter of `The answer is ([A-Z]).` (any character may follow)
  if the phrase stands exactly once and the question has that option; else a random option. Here it is drawn by the
  question's id.
- `official-sequence`: the same with the random options of that program as models/paper.sh calls it (seed 3, after
  drawing two examples from the 12,726 of the training set), over the questions in the order of the split. The published
  results (final_test_QCM-ALE_2_seed_3.json) agree with it in the first nine answers that name no option.
- `official-recorded`: tools/evaluate_acc.py, which takes the option's number as it stands in `results`.
- `llava`: haotian-liu/LLaVA, llava/eval/eval_science_qa.py. The whole text is a letter, or it begins with a letter, a
  full stop and a blank, or the phrase above; else wrong. So "A." and "a" and "A)" are wrong.
- `lmms-eval`: lmms-eval, tasks/scienceqa/utils.py. Without blanks around it the text is the letter, in upper or lower
  case, or it begins with a capital and a full stop; "a." and "The answer is A." are wrong.
- `vlmevalkit`: VLMEvalKit's matching without a judge.

A question without a prediction is wrong, as in LLaVA's script. Figures: those of evaluate_acc.py by its names, and
`IMG-Accuracy`, LLaVA's name for `acc_has_image`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mminstruct.errors import DataError
from mminstruct.evaluation.figures import mean_of_parts
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import (
    Official,
    json_lines_or_list,
    json_list,
    record,
    records,
    unique,
    unique_items,
)
from mminstruct.evaluation.parsing.letters import lettered, random_letter, vlmevalkit_letter
from mminstruct.evaluation.scorers.metric import (
    Metric,
    Predictions,
    Variant,
    Verdict,
    each,
    missing_is_wrong,
)
from mminstruct.files import read_json

PHRASE = re.compile(r"The answer is ([A-Z]).")
LETTERS = "ABCDE"
TRAINING_QUESTIONS, EXAMPLES, SEED = 12_726, 2, 3
SPLIT = "test"
SUBJECTS = {"natural science": "natural", "social science": "social", "language science": "language"}


def phrase_letter(text: str) -> str | None:
    """The letter of the only "The answer is X." of a text; None where there is none or more than one."""
    found = PHRASE.findall(text)
    return found[0] if len(found) == 1 else None


def llava_letter(text: str) -> str | None:
    """eval_science_qa.py: a letter alone, a letter with a full stop and a blank, or the phrase."""
    if text in tuple(LETTERS):
        return text
    if text[:1] in tuple(LETTERS) and text[1:3] == ". ":
        return text[0]
    return phrase_letter(text)


def lmms_eval_letter(text: str) -> str | None:
    """lmms-eval: a capital and a full stop at the start, else the text as it is, in upper case ("b", but not "b.")."""
    text = text.strip()
    return text[0] if text[:1].isupper() and text[1:2] == "." else text.upper()


def _options(item: Item) -> list[str]:
    if not 2 <= len(item.choices) <= len(LETTERS):
        raise DataError(f"question {item.id!r} has {len(item.choices)} choices and not 2 to 5; give the official file")
    return list(LETTERS[: len(item.choices)])


def _verdict(letter: str | None, item: Item) -> Verdict:
    """A letter that the question lacks is no answer."""
    known = letter if letter in _options(item) else None
    return Verdict(float(known in item.answers), known, parsed=known is not None)


def _official(text: str, item: Item) -> Verdict:
    return _guessed(text, item, random_letter(item.id, _options(item)))


def _guessed(text: str, item: Item, guess: str) -> Verdict:
    found = _verdict(phrase_letter(text), item)
    return found if found.parsed else Verdict(float(guess in item.answers), guess, parsed=False)


def _sequence(items: Sequence[Item], predictions: Predictions) -> list[Verdict]:
    chance = random.Random(SEED)
    chance.sample(range(TRAINING_QUESTIONS), EXAMPLES)

    def judge(text: str, item: Item) -> Verdict:
        read = _verdict(phrase_letter(text), item)
        return read if read.parsed else _guessed(text, item, chance.choice(_options(item)))

    return each(judge)(items, predictions)


def _recorded(text: str, item: Item) -> Verdict:
    number = text.strip()
    letter = LETTERS[int(number)] if number.isdecimal() and int(number) < len(LETTERS) else None
    return _verdict(letter, item)


def _vlmevalkit(text: str, item: Item) -> Verdict:
    return _verdict(vlmevalkit_letter(text, lettered(item.choices)), item)


# --- figures ----------------------------------------------------------------------------------------------------------


class _Facts(Official):
    subject: str = ""
    grade: str = ""
    has_text: bool = False
    has_image: bool = False


def _parts(item: Item) -> Iterator[str]:
    facts = record(f"question {item.id!r}", dict(item.facts), _Facts)
    if facts.subject in SUBJECTS:
        yield f"acc_{SUBJECTS[facts.subject]}"
    if facts.has_text:
        yield "acc_has_text"
    if facts.has_image:
        yield from ("acc_has_image", "IMG-Accuracy")
    if item.facts and not facts.has_text and not facts.has_image:
        yield "acc_no_context"
    grade = facts.grade.removeprefix("grade")
    if grade.isdecimal():
        yield "acc_grade_1_6" if int(grade) <= 6 else "acc_grade_7_12"


total = mean_of_parts(_parts)

# --- official files ---------------------------------------------------------------------------------------------------


class _Problem(Official):
    choices: list[str]
    answer: int
    question: str = ""
    hint: str | None = ""
    image: str | None = None
    subject: str = ""
    grade: str = ""
    split: str = ""


class _Line(Official):
    question_id: str | int
    text: str


def read_gold(path: Path) -> list[Item]:
    """problems.json, or the folder that holds it: the questions of the split `test`, or all where there are none.

    The order is that of pid_splits.json where it stands beside. Images are paths within the folder of the split.
    """
    file = path / "problems.json" if path.is_dir() else path
    problems = read_json(file)
    if not isinstance(problems, dict):
        raise DataError(f"{file} is not a JSON object {{id: question}}; give problems.json")
    lines = {pid: record(f"{file}: {pid!r}", value, _Problem) for pid, value in problems.items()}
    return unique_items((f"{file}: {pid!r}", _item(file, pid, lines[pid])) for pid in _of_the_split(file, lines))


def _of_the_split(file: Path, lines: dict[str, _Problem]) -> list[str]:
    splits = file.parent / "pid_splits.json"
    if splits.is_file():
        found = read_json(splits)
        ids = found.get(SPLIT) if isinstance(found, dict) else None
        if not isinstance(ids, list):
            raise DataError(f"{splits} has no list {SPLIT!r}; give the official file")
        known = [str(pid) for pid in ids if str(pid) in lines]
    else:
        known = [pid for pid, line in lines.items() if line.split == SPLIT]
    return known or list(lines)


def _item(file: Path, pid: str, line: _Problem) -> Item:
    if not 0 <= line.answer < len(line.choices) <= len(LETTERS):
        raise DataError(f"{file}: {pid!r}: answer {line.answer} is none of the {len(line.choices)} choices; mend it")
    hint = {"hint": line.hint} if line.hint else {}
    return Item(
        id=pid,
        images=(Path(pid, line.image),) if line.image else (),
        question=line.question,
        answers=(LETTERS[line.answer],),
        kind=line.subject,
        cluster=pid,
        choices=tuple(line.choices),
        facts={
            "subject": line.subject,
            "grade": line.grade,
            "has_text": bool(line.hint),
            "has_image": bool(line.image),
        }
        | hint,
    )


def read_answers(path: Path) -> dict[str, str]:
    """LLaVA's JSON lines {question_id, text}, or a file of results `{"outputs": {id: text}}`.

    LLaVA's script writes one more: `{"correct": [{question_id, pred}], "incorrect": [...]}`.
    """
    value = _results(path)
    if value is None:
        return unique(
            (place, str(line.question_id), line.text) for place, line in records(json_lines_or_list(path), _Line)
        )
    if "outputs" not in value and "correct" in value:
        return unique((place, str(line.question_id), line.pred) for place, line in records(_judged(path), _Judged))
    return _texts(path, value, "outputs")


class _Judged(Official):
    """An entry of eval_science_qa.py's --output-file."""

    question_id: str | int
    pred: str


def _judged(path: Path) -> Iterator[tuple[str, Any]]:
    for key in ("correct", "incorrect"):
        yield from json_list(path, key)


def read_recorded(path: Path) -> dict[str, str]:
    """id -> the number of the option that a file of results holds: `{"results": {id: number}}`."""
    value = _results(path)
    if value is None:
        raise DataError(f"{path} is no file of results; give one with the key 'results', or use another variant")
    return _texts(path, value, "results")


def _results(path: Path) -> dict[str, Any] | None:
    """The object of a file of results; None for JSON lines and arrays."""
    try:
        value = read_json(path)
    except DataError:
        if not path.is_file():
            raise
        return None  # several lines are no one JSON value
    return value if isinstance(value, dict) and {"results", "outputs", "incorrect"} & value.keys() else None


def _texts(path: Path, value: dict[str, Any], key: str) -> dict[str, str]:
    found = value.get(key)
    if not isinstance(found, dict):
        raise DataError(f"{path} has no object {key!r}; give a file of results as the official script writes it")
    return {str(pid): str(text) for pid, text in found.items()}


METRIC = Metric(
    name="scienceqa",
    summary="Accuracy on ScienceQA, over all questions and over those with a picture (IMG).",
    variants=(
        Variant(
            "llava",
            'haotian-liu/LLaVA, eval_science_qa.py: "X", "X. ..." or "The answer is X."; else wrong.',
            each(lambda text, item: _verdict(llava_letter(text), item)),
            total,
        ),
        Variant(
            "official",
            "lupantech/ScienceQA, models/run_gpt3.py: The answer is X., else a random option, by the question's id.",
            each(_official),
            total,
        ),
        Variant(
            "official-sequence",
            "The same with that program's random sequence: seed 3, two examples drawn first, in the split's order.",
            _sequence,
            total,
        ),
        Variant(
            "official-recorded",
            "lupantech/ScienceQA, tools/evaluate_acc.py: the option numbers that stand in the results file.",
            each(_recorded),
            total,
            predictions=read_recorded,
        ),
        Variant(
            "lmms-eval",
            "lmms-eval, tasks/scienceqa/utils.py: X in any case, or a capital and a full stop first; else wrong.",
            each(lambda text, item: _verdict(lmms_eval_letter(text), item)),
            total,
        ),
        Variant(
            "vlmevalkit",
            "VLMEvalKit, matching_util.py, can_infer without a judge; what it cannot read is wrong.",
            each(_vlmevalkit),
            total,
        ),
    ),
    files="problems.json (beside pid_splits.json) or its folder; JSON lines {question_id, text} or a file of results",
    gold=read_gold,
    predictions=read_answers,
    pairing=missing_is_wrong,
)
