"""NExT-QA, multiple choice: why, how, when and what in short videos, with five options.

    text ── option's number, or letter ──▶ the gold one's? ──▶ 0 or 1

- `official`: doc-doc/NExT-QA, eval_mc.py: a prediction is the option's number, 0 to 4. The questions of the CSV count;
  predictions of others are left out.
- `lmms-eval`: tasks/nextqa/utils.py: a text, read by the loose form of MMMU's parser (`parsing/letters.py`); what names
  no option gets a random one, here drawn by the question's id.
- `letters`: the same without random options.

Figures, by the official names: Why (CW), How (CH), Bef&Aft (TN and TP), When (TC), Cnt (DC), Loc (DL), Other (DO), and
Acc_C, Acc_T, Acc_D for the causal, temporal and descriptive ones. Open answers (WUPS) are not scored here: they need
the WordNet data base and a lemmatiser.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import Field

from mminstruct.errors import DataError
from mminstruct.evaluation.figures import mean_of_parts
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_object, record, records, table, unique, unique_items
from mminstruct.evaluation.parsing.letters import lettered, mmmu_letter_loose, random_letter
from mminstruct.evaluation.scorers.metric import Metric, Variant, Verdict, all_predicted, each

OPTIONS = 5
LETTERS = "ABCDE"
NAMES = {"CW": "Why", "CH": "How", "TN": "Bef&Aft", "TC": "When", "DC": "Cnt", "DL": "Loc", "DO": "Other"}


def _official(text: str, item: Item) -> Verdict:
    number = text.strip()
    letter = LETTERS[int(number)] if number.isdecimal() and int(number) < OPTIONS else None
    return Verdict(float(letter in item.answers), letter, parsed=letter is not None)


def _letters(text: str, item: Item) -> Verdict:
    letter = mmmu_letter_loose(text, lettered(item.choices))
    return Verdict(float(letter in item.answers), letter, parsed=letter is not None)


def _lmms_eval(text: str, item: Item) -> Verdict:
    found = _letters(text, item)
    guess = random_letter(item.id, LETTERS)
    return found if found.parsed else Verdict(float(guess in item.answers), guess, parsed=False)


def _parts(item: Item) -> Iterator[str]:
    kind = "TN" if item.kind == "TP" else item.kind
    if kind in NAMES:
        yield NAMES[kind]
        yield f"Acc_{kind[0]}"


class _Question(Official):
    video: str
    qid: str
    question: str = ""
    answer: str
    type: str
    a0: str
    a1: str
    a2: str
    a3: str
    a4: str


class _Answer(Official):
    prediction: int | str


class _Judged(Official):
    answer: int = Field(ge=0, lt=OPTIONS)


def read_gold(path: Path) -> list[Item]:
    """val.csv or test.csv: video, question, answer (the option's number), qid, type, a0 to a4.

    A file of results holds the answers too, `{"VIDEO_QID": {prediction, answer}}`, but no types and no options.
    """
    if path.suffix.lower() == ".json":
        judged = ((name, place, record(place, value, _Judged)) for name, place, value in json_object(path))
        return unique_items(
            (place, Item(id=name, answers=(LETTERS[line.answer],), cluster=name.rpartition("_")[0]))
            for name, place, line in judged
        )
    return unique_items((place, _item(place, line)) for place, line in records(table(path, ","), _Question))


def _item(place: str, line: _Question) -> Item:
    if line.answer not in tuple("01234"):
        raise DataError(f"{place}: answer {line.answer!r} is no option's number, 0 to 4; give the file of the choices")
    return Item(
        id=f"{line.video}_{line.qid}",
        question=line.question,
        answers=(LETTERS[int(line.answer)],),
        kind=line.type,
        cluster=line.video,
        videos=(Path(f"{line.video}.mp4"),),
        choices=tuple(option.strip() for option in (line.a0, line.a1, line.a2, line.a3, line.a4)),
    )


def read_answers(path: Path) -> dict[str, str]:
    """`{"VIDEO_QID": {prediction, answer}}`, as the official scripts write it, or `{"VIDEO_QID": prediction}`."""
    return unique((place, name, _text(place, value)) for name, place, value in json_object(path))


def _text(place: str, value: object) -> str:
    entry = value if isinstance(value, dict) else {"prediction": value}
    return str(record(place, entry, _Answer).prediction)


def _of_the_list(items: Sequence[Item], found: Mapping[str, str], path: Path) -> tuple[list[Item], list[str | None]]:
    """As `all_predicted`; predictions of questions that are not in the gold file are left out, as by eval_mc.py."""
    known = {item.id for item in items}
    kept = {name: text for name, text in found.items() if name in known}
    return all_predicted(items, kept or found, path)


METRIC = Metric(
    name="next-qa",
    summary="Accuracy on NExT-QA's multiple choice questions on videos, by type.",
    variants=(
        Variant(
            "official",
            "doc-doc/NExT-QA, eval_mc.py: the prediction is the option's number, 0 to 4.",
            each(_official),
            mean_of_parts(_parts),
        ),
        Variant(
            "lmms-eval",
            "lmms-eval, tasks/nextqa/utils.py: MMMU's loose parser, else a random option, by the question's id.",
            each(_lmms_eval),
            mean_of_parts(_parts),
        ),
        Variant(
            "letters",
            "As lmms-eval, but what names no option is wrong.",
            each(_letters),
            mean_of_parts(_parts),
        ),
    ),
    files="val.csv or test.csv; results {VIDEO_QID: {prediction, answer}}, which serve as gold too, without types",
    gold=read_gold,
    predictions=read_answers,
    pairing=_of_the_list,
)
