"""Corrections by hand: doubtful questions of a data set as rows of a table, and the edited table back into a new one.

    data set ──write_queue (a score below a bound)──▶ queue.csv ──a person──▶ queue.csv
    data set + queue.csv ──corrected──▶ the same records, those of the table corrected or left out

A row is one question with its answer: `id, turn, image, question, options, answer, keep, why, mark`. A person edits
`question`, `options` (one a line), `answer`, and writes `no` under `keep` to leave the record out. `mark` is a hash of
what the row said, by which a changed id or another data set is noticed. Rows may be removed: a record without any stays
as it is.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from mminstruct.conversation import Conversation, Message, Provenance, Record, TextPart
from mminstruct.errors import ConfigError, DataError, did_you_mean
from mminstruct.files import read_jsonl, write_text

NAME, VERSION = "corrections", "1"


class Row(Record):
    """One question. `options` are lines, also where the table is JSON; `turn` counts questions from 1."""

    id: str
    turn: int = Field(ge=1)
    image: str = ""
    question: str = Field(min_length=1)
    options: str = ""
    answer: str = Field(min_length=1)
    keep: Literal["yes", "no"] = "yes"
    why: str = ""
    mark: str = Field(min_length=1)

    @field_validator("keep", mode="before")
    @classmethod
    def _keep_in_any_letters(cls, value: Any) -> Any:
        return value.strip().lower() if isinstance(value, str) else value


FIELDS = tuple(Row.model_fields)


def write_queue(conversations: Iterable[Conversation], path: Path, score: str | None = None, below: float = 1.0) -> int:
    """A new table of the questions of records with a score below a bound; without `score`, of all records.

    Returns the number of rows.

    Raises:
        ConfigError: the name ends in neither .csv nor .jsonl.
        DataError: there is nothing to correct, or a turn has not one text.
    """
    _require_table(path)
    rows = []
    for conversation in conversations:
        found = (conversation.scores or {}).get(score) if score is not None else -float("inf")
        if found is not None and found < below:
            rows += _rows(conversation)
    if not rows:
        raise DataError(
            "no record has a question and an answer"
            if score is None
            else f"no record has a {score} below {below:g}; there is nothing to correct"
        )
    values = [row.model_dump() for row in rows]
    if path.suffix == ".jsonl":
        write_text(path, "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values))
    else:
        stream = io.StringIO()
        writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(values)
        write_text(path, "\ufeff" + stream.getvalue())  # by this mark spreadsheets see that it is UTF-8
    return len(rows)


def corrected(conversations: Iterable[Conversation], path: Path) -> Iterator[Conversation]:
    """The conversations as the edited table has them; those that it changes say so in `provenance` and `extra.before`.

    Raises:
        DataError: with the line of the table: a row that is broken, stands twice, or is of no record of the data set.
    """
    rows = _read(path)
    ids = []
    for conversation in conversations:
        ids.append(conversation.id)
        if conversation.id not in rows:
            yield conversation
            continue
        originals = {row.turn: row for row in _rows(conversation)}
        edited = rows.pop(conversation.id)
        for turn, (where, row) in edited.items():
            if turn not in originals:
                raise DataError(f"{where}: {conversation.id!r} has {len(originals)} questions, and no number {turn}")
            if row.mark != originals[turn].mark:
                raise DataError(
                    f"{where}: the row was not made of this {conversation.id!r}; its id or the data set was changed"
                )
        if all(row.keep == "yes" for _, row in edited.values()):
            changed = [one for turn, one in edited.items() if _content(one[1]) != _content(originals[turn])]
            yield _changed(conversation, originals, changed) if changed else conversation
    for name, edited in rows.items():
        where = next(iter(edited.values()))[0]
        hint = did_you_mean(name, ids[:10_000])
        raise DataError(f"{where}: the data set has no record {name!r}; do not change ids.{hint}")


def _require_table(path: Path) -> None:
    if path.suffix not in (".csv", ".jsonl"):
        raise ConfigError(f"{path} is no name of a table; let it end in .csv or .jsonl")


def _turns(conversation: Conversation) -> list[tuple[int, int]]:
    """(place of the question, place of the answer) among the messages."""
    roles = [message.role for message in conversation.messages]
    return [(at, at + 1) for at in range(len(roles) - 1) if roles[at : at + 2] == ["user", "assistant"]]


def _text(conversation: Conversation, at: int) -> str:
    parts = [part.text for part in conversation.messages[at].content if isinstance(part, TextPart)]
    if len(parts) != 1:
        raise DataError(
            f"message {at} of {conversation.id!r} has {len(parts)} texts; only turns of one can be corrected"
        )
    return parts[0]


def _rows(conversation: Conversation) -> list[Row]:
    images = ", ".join(medium.path for medium in conversation.media)
    why = "; ".join(f"{name} {value:g}" for name, value in (conversation.scores or {}).items())
    rows = []
    for turn, (asked, answered) in enumerate(_turns(conversation), start=1):
        question, answer = _text(conversation, asked).strip(), _text(conversation, answered).strip()
        mark = hashlib.sha256(json.dumps([conversation.id, turn, question, answer]).encode()).hexdigest()[:16]
        rows.append(
            Row.model_construct(
                id=conversation.id,
                turn=turn,
                image=images,
                question=question,
                options="\n".join(conversation.options or []),
                answer=answer,
                keep="yes",
                why=why,
                mark=mark,
            )
        )
    return rows


def _content(row: Row) -> tuple[str, str, list[str]]:
    return row.question.strip(), row.answer.strip(), _options(row)


def _options(row: Row) -> list[str]:
    return [option.strip() for option in row.options.splitlines() if option.strip()]


def _read(path: Path) -> dict[str, dict[int, tuple[str, Row]]]:
    """Where each row stands, and the row, by id and turn."""
    _require_table(path)
    rows: dict[str, dict[int, tuple[str, Row]]] = {}
    for where, value in _lines(path) if path.suffix == ".csv" else _items(path):
        try:
            row = Row.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            raise DataError(f"{where}: {f'{key}: ' if key else ''}{first['msg']}; mend or drop the row") from None
        if row.turn in rows.setdefault(row.id, {}):
            raise DataError(f"{where}: question {row.turn} of {row.id!r} stands twice; drop one of the rows")
        rows[row.id][row.turn] = where, row
    return rows


def _items(path: Path) -> Iterator[tuple[str, Any]]:
    for line, value in read_jsonl(path):
        yield f"{path}:{line}", value


def _lines(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a CSV file with commas or, as some spreadsheets write it, semicolons."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from None
    header = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=";" if header.count(";") > header.count(",") else ",", strict=True)
    start = 1
    try:
        for cells in reader:
            if start == 1:
                if tuple(cells) != FIELDS:
                    raise DataError(f"{path}:1: the columns are {', '.join(cells)}; keep {', '.join(FIELDS)}")
            elif cells:
                if len(cells) != len(FIELDS):
                    raise DataError(f"{path}:{start}: the row has {len(cells)} cells, not {len(FIELDS)}; mend it")
                yield f"{path}:{start}", dict(zip(FIELDS, cells, strict=True))
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{start}: {error}; mend the row") from None


def _changed(conversation: Conversation, originals: dict[int, Row], rows: list[tuple[str, Row]]) -> Conversation:
    messages, options, answers = list(conversation.messages), conversation.options, conversation.answers
    turns = _turns(conversation)
    for where, row in rows:
        before = originals[row.turn]
        question, answer, given = row.question.strip(), row.answer.strip(), _options(row)
        if given != (options or []):
            question = _with_options(question, options or [], given, where)
            options = given
        if options is not None and answer not in [*options, *_letters(options)]:
            raise DataError(f"{where}: the answer {answer!r} is neither an option nor the letter of one")
        if answers is not None and answer != before.answer:
            if before.answer not in answers:
                raise DataError(f"{where}: the record's answers are others than its text; it cannot be corrected here")
            answers = [answer if one == before.answer else one for one in answers]
        for at, new in zip(turns[row.turn - 1], (question, answer), strict=True):
            messages[at] = _with_text(messages[at], new)
    old = conversation.provenance
    note = [{"turn": row.turn, "question": row.question, "answer": row.answer} for row in originals.values()]
    return conversation.model_copy(
        update={
            "messages": messages,
            "options": options,
            "answers": answers,
            "extra": (conversation.extra or {}) | {"before": note},
            "provenance": Provenance(
                builder=NAME,
                version=VERSION,
                parents=[conversation.id],
                call_ids=old.call_ids if old else [],
                licence=old.licence if old else None,
            ),
        }
    )


def _letters(options: list[str]) -> list[str]:
    return [chr(ord("A") + place) for place in range(len(options))]


def _with_options(question: str, old: list[str], new: list[str], where: str) -> str:
    """The question with its lines `A. option` changed."""
    if len(new) != len(old) or len({option.casefold() for option in new}) < len(new):
        raise DataError(f"{where}: there are {len(new)} options and had been {len(old)}; give as many, all different")
    lines = question.split("\n")
    for letter, before, after in zip(_letters(old), old, new, strict=True):
        if f"{letter}. {after}" in lines:  # changed there too
            continue
        if f"{letter}. {before}" not in lines:
            raise DataError(
                f"{where}: the question has no line '{letter}. {before}'; change options there and here alike"
            )
        lines[lines.index(f"{letter}. {before}")] = f"{letter}. {after}"
    return "\n".join(lines)


def _with_text(message: Message, new: str) -> Message:
    """With another text, and the white space around it as it was."""
    content = []
    for part in message.content:
        if isinstance(part, TextPart):
            bare = part.text.strip()
            before, _, after = part.text.partition(bare) if bare else ("", "", "")
            part = TextPart(text=f"{before}{new}{after}")
        content.append(part)
    return message.model_copy(update={"content": content})
