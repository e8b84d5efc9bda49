"""EgoSchema: three-minute videos of one's own eyes, five options; the answers of 500 questions are public.

    option's number, or text ──▶ equal to the gold number? ──▶ 0 or 1

- `official`: a submission holds the option's number, 0 to 4, for each of 5,031 questions; the server compares. Here the
  500 public ones count; others are left out. -1, or none, is wrong.
- `lmms-eval`: tasks/egoschema/utils.py (0.7.3): a loose form of MMMU's parser (`parsing/letters.py`); what names no
  option gets a random one, here drawn by the question's id.
- `lmms-eval-2024`: the same before (147ad5c): a text that is the whole option ("A. He cooks."), its sentence, or its
  letter, character by character. The sentence ends at the first full stop with a blank.

The gold file is subset_answers.json; lmms-eval's need the options too, which are taken from questions.json beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mminstruct.errors import DataError
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_list, json_object, records, table, unique, unique_items
from mminstruct.evaluation.parsing.letters import egoschema_letter, lettered, random_letter
from mminstruct.evaluation.scorers.metric import Metric, Variant, Verdict, each

OPTIONS = 5


def _official(text: str, item: Item) -> Verdict:
    number = text.strip()
    known = number if number in tuple("01234") else None
    return Verdict(float(known in item.answers), known, parsed=known is not None)


def _options(item: Item) -> dict[str, str]:
    """The options by letter as lmms-eval's data set has them, "A. He cooks"."""
    if len(item.choices) != OPTIONS:
        raise DataError(f"question {item.id!r} has no options; put questions.json beside the gold file")
    return {letter: f"{letter}. {option}".strip() for letter, option in lettered(item.choices).items()}


def _lmms_eval(text: str, item: Item) -> Verdict:
    options = _options(item)
    found = egoschema_letter(text, options)
    number = str(list(options).index(found or random_letter(item.id, list(options))))
    return Verdict(float(number in item.answers), number, parsed=found is not None)


def _lmms_eval_2024(text: str, item: Item) -> Verdict:
    whole = list(_options(item).values())
    whole = [option if option.endswith(".") else f"{option}." for option in whole]
    sentences = [option.split(". ")[1] for option in whole]
    letters = list(lettered(item.choices))
    for forms in (whole, sentences, letters):
        if text in forms:
            number = str(forms.index(text))
            return Verdict(float(number in item.answers), number)
    return Verdict(0.0, parsed=False)


class _Question(Official):
    q_uid: str
    question: str = ""


def read_gold(path: Path) -> list[Item]:
    """subset_answers.json, `{q_uid: number}`, with the texts of questions.json where that file stands beside."""
    texts = _texts(path.parent / "questions.json")
    return unique_items((place, _item(place, name, value, texts.get(name))) for name, place, value in json_object(path))


def _item(place: str, name: str, value: Any, texts: tuple[str, tuple[str, ...]] | None) -> Item:
    if isinstance(value, bool) or str(value) not in tuple("01234"):
        raise DataError(f"{place}: the answer is {value!r} and no option's number, 0 to 4; give subset_answers.json")
    question, options = texts or ("", ())
    video = Path(f"{name}.mp4")
    return Item(id=name, question=question, answers=(str(value),), cluster=name, choices=options, videos=(video,))


def _texts(path: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """q_uid -> (question, options); empty where there is no such file."""
    if not path.is_file():
        return {}
    entries = [(place, value) for place, value in json_list(path)]
    found = {}
    for (_, value), (place, line) in zip(entries, records(entries, _Question), strict=True):
        options = tuple(value.get(f"option {number}") for number in range(OPTIONS))
        if not all(isinstance(option, str) for option in options):
            raise DataError(f"{place} lacks one of option 0 to option 4; give the official file")
        found[line.q_uid] = (line.question, options)
    return found


def read_answers(path: Path) -> dict[str, str]:
    """A submission: `{q_uid: number}`, or CSV with the columns q_uid and answer."""
    if path.suffix.lower() == ".csv":
        lines = records(table(path, ","), _Row)
        return unique((place, line.q_uid, line.answer) for place, line in lines)
    return unique((place, name, _text(place, value)) for name, place, value in json_object(path))


class _Row(Official):
    q_uid: str
    answer: str


def _text(place: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{place}: the answer is no option's number; give {{q_uid: number}}")
    return str(value)


def _public(items: Sequence[Item], found: Mapping[str, str], path: Path) -> tuple[list[Item], list[str | None]]:
    """All public questions; predictions of the others are left out. Raises `DataError` where none is left."""
    if not any(item.id in found for item in items):
        raise DataError(f"{path} answers no question of the gold file; both must be of one data set")
    return list(items), [found.get(item.id) for item in items]


METRIC = Metric(
    name="egoschema",
    summary="Accuracy on the 500 public questions of EgoSchema: five options on long videos.",
    variants=(
        Variant(
            "official",
            "EgoSchema's submissions: the option's number, 0 to 4; anything else is wrong.",
            each(_official),
        ),
        Variant(
            "lmms-eval",
            "lmms-eval, tasks/egoschema/utils.py (0.7.3): MMMU's parser, made loose, else a random option, by the id.",
            each(_lmms_eval),
        ),
        Variant(
            "lmms-eval-2024",
            "The same before: the text is an option, its first sentence or its letter, exactly; else wrong.",
            each(_lmms_eval_2024),
        ),
    ),
    files="subset_answers.json (beside questions.json for the options); a submission {q_uid: number}, or CSV",
    gold=read_gold,
    predictions=read_answers,
    pairing=_public,
)
