"""MAVIS' tables of mathematical problems: a row is a problem in three variants, each with a picture, and a caption.

    image_text_dominant, image_text_lite, image_vision_dominant    the pictures
    choices, answer_index                                          lettered answers, and which is right
    text_en, text_zh    {diagram_generation, caption, text_dominant_question, text_lite_question,
                         vision_dominant_question, CoT_reasoning}

    row ──▶ caption, text-dominant, text-lite, vision-dominant ──▶ row

A caption is a conversation of the task `mavis+caption` about the first picture; each variant is one of a task of its
own, and `extra["problem"]` says which belong together. The choices stand below the question. What is written has the
published columns and two more: `id`, the problem's, and `mminstruct`, for what the columns have no place for.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mminstruct.conversation import Conversation, ImagePart, Message, Part, TextPart
from mminstruct.errors import ConfigError, DataError
from mminstruct.files import atomic_path
from mminstruct.formats import tables
from mminstruct.formats.embedded import Pictures, encoded
from mminstruct.formats.items import Duplicates, Each, dumps, unique
from mminstruct.formats.rest import KEY, Keys, pack, places, unpack

if TYPE_CHECKING:
    import pyarrow

Language = Literal["en", "zh", "all"]

TASK = "mavis+"
CAPTION = "caption"
VARIANTS = {  # to the columns of the picture and of the text
    CAPTION: ("image_text_dominant", "caption"),
    "text-dominant": ("image_text_dominant", "text_dominant_question"),
    "text-lite": ("image_text_lite", "text_lite_question"),
    "vision-dominant": ("image_vision_dominant", "vision_dominant_question"),
}
LANGUAGES = {"en": "text_en", "zh": "text_zh"}
PICTURES = ("image_text_dominant", "image_text_lite", "image_vision_dominant")
REASONING, GENERATION = "CoT_reasoning", "diagram_generation"
TEXTS = (GENERATION, *(text for _, text in VARIANTS.values()), REASONING)

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CHOICES = {"en": "Choices:", "zh": "选项:"}
_KEYS = Keys(
    turns="mavis.turns",  # a turn has no keys of its own here
    item=frozenset({"id", "question", "mavis.turns", KEY}),
    turn=frozenset(),
)
_ROWS = 64  # written at once


def is_one(path: Path) -> bool:
    """Whether a path is a table of MAVIS', or a folder of them. Raises `DataError` where it cannot be read."""
    if not tables.is_one(path):
        return False
    names = set(tables.some_schema(path).names)
    return PICTURES[0] in names and bool(names & {*LANGUAGES.values()})


def read(
    path: Path,
    *,
    split: str | None = None,
    language: Language = "en",
    unpack: Path | None = None,
    duplicate_ids: Duplicates = "error",
) -> Iterator[Conversation]:
    """The conversations of a table, row by row: the caption, then the variants that are there.

    Args:
        split: which one, where there are several.
        language: of the texts; `all` gives those in Chinese behind each row's English ones.
        unpack: the folder that pictures are written to; None: only their names are made.
        duplicate_ids: see `mminstruct.formats.items.unique`.

    Raises:
        DataError: a row that is not as described, with its place.
    """
    found = each(path, split=split, language=language, unpack=unpack)
    return unique((make() for _, make in found), path, duplicate_ids)


def each(
    path: Path, *, split: str | None = None, language: Language = "en", unpack: Path | None = None
) -> Iterator[Each]:
    """The captions and problems of a table, each to be made by itself."""
    pictures = Pictures(unpack)
    for file in tables.files(path, split):
        for number, row in enumerate(tables.rows(file, _columns(file))):
            for spoken in LANGUAGES if language == "all" else (language,):
                for variant in VARIANTS:
                    if (row.get(LANGUAGES[spoken]) or {}).get(VARIANTS[variant][1]):
                        where = f"{file}, row {number}, {variant}"
                        name = row.get("id") or f"{file.stem}/{number}"
                        yield where, functools.partial(_conversation, row, name, variant, spoken, pictures, where)


def _columns(file: Path) -> list[str]:
    """Those of a file that are read. Raises `DataError` where one of them holds something else."""
    wanted, found = _schema(), []
    for column in tables.some_schema(file):
        if column.name not in wanted.names:
            continue
        if not _fits(column.type, wanted.field(column.name).type):
            raise DataError(f"{file} has a column {column.name!r} of {column.type}, which is not as MAVIS' is; mend it")
        found.append(column.name)
    return found


def _fits(kind: pyarrow.DataType, wanted: pyarrow.DataType) -> bool:
    """Whether a column is read as one that is written; keys that are not known do not matter."""
    from pyarrow import types

    if types.is_null(kind):
        return True
    if types.is_struct(wanted):
        fields = [kind.field(number) for number in range(kind.num_fields)] if types.is_struct(kind) else []
        own = {wanted.field(number).name: wanted.field(number).type for number in range(wanted.num_fields)}
        known = [one for one in fields if one.name in own]
        return bool(known) and all(_fits(one.type, own[one.name]) for one in known)
    if types.is_list(wanted):
        return bool(types.is_list(kind) or types.is_large_list(kind)) and _fits(kind.value_type, wanted.value_type)
    if types.is_integer(wanted):
        return bool(types.is_integer(kind))
    if types.is_binary(wanted):
        return bool(types.is_binary(kind) or types.is_large_binary(kind))
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _conversation(
    row: Mapping[str, Any], problem: str, variant: str, language: str, pictures: Pictures, where: str
) -> Conversation:
    column, text = VARIANTS[variant]
    spoken = row[LANGUAGES[language]]
    picture = (row.get(column) or {}).get("bytes")
    if picture is None:
        raise DataError(f"{where} has no picture under {column!r}; fetch the table again, or drop the row")
    own = _own(row.get(KEY), where).get(_slot(variant, language), {})
    options, answer = _answer(row, where)
    rest = dict(own.get(KEY, {}))
    extra = {} if spoken.get(GENERATION) is None else {GENERATION: spoken[GENERATION]}
    extra |= {} if language == "en" else {"language": language}
    rest["task"] = f"{TASK}{variant}"
    if variant == CAPTION:
        question, reply = "", spoken[text]
    else:
        question, reply = _shown(spoken[text], options, language), spoken.get(REASONING)
        extra["problem"] = problem
        if answer is not None:
            rest |= {"options": options, "answers": [answer]}
        if reply is None:
            raise DataError(f"{where} has a question and no {REASONING!r}, its answer; drop the row")
    question = own.get("question", question)
    content: list[Part] = [ImagePart(index=0), *([TextPart(text=f"\n{question}")] if question else [])]
    turns = [Message(role="user", content=content), Message(role="assistant", content=[TextPart(text=reply)])]
    item = {key: value for key, value in own.items() if key not in _KEYS.item} | extra
    item |= {KEY: rest, _KEYS.turns: []}
    return unpack(
        item, own.get("id", _id(problem, variant, language)), turns, [pictures.keep(picture, where)], _KEYS, where
    )


def _own(value: str | None, where: str) -> dict[str, Any]:
    """What the column `mminstruct` says of each caption or variant."""
    try:
        found = json.loads(value or "{}")
    except (ValueError, RecursionError):
        found = None
    kinds = {"id": str, "question": str, KEY: dict}
    if not isinstance(found, dict) or not all(
        isinstance(one, dict) and all(isinstance(one[key], kind) for key, kind in kinds.items() if key in one)
        for one in found.values()
    ):
        raise DataError(f"{where}: the column {KEY!r} is this project's own and not as it was written; leave it out")
    return found


def _answer(row: Mapping[str, Any], where: str) -> tuple[list[str] | None, str | None]:
    """The choices and the letter of the right one; None where the row has none."""
    options, index = row.get("choices"), row.get("answer_index")
    if not options or index is None:
        return None, None
    if not 0 <= index < min(len(options), len(_LETTERS)):
        raise DataError(f"{where} has {len(options)} choices and the answer_index {index}; mend or drop the row")
    return options, _LETTERS[index]


def _shown(question: str, options: list[str] | None, language: str) -> str:
    """The question with its choices below, unless it names them itself."""
    return question if options is None or _CHOICES[language] in question else question + _listing(options, language)


def _listing(options: list[str], language: str) -> str:
    lines = "".join(f"\n{letter}. {option}" for letter, option in zip(_LETTERS, options, strict=False))
    return f"\n{_CHOICES[language]}{lines}"


def _slot(variant: str, language: str) -> str:
    return variant if language == "en" else f"{variant}/{language}"


def _id(problem: str, variant: str, language: str) -> str:
    return f"{problem}/{_slot(variant, language)}"


# --- writing ----------------------------------------------------------------------------------------------------------


@dataclass
class _Told:
    """A conversation as its row has it; pieces that are None have no place there."""

    variant: str
    language: str
    problem: str
    picture: bytes
    text: str
    reasoning: str | None
    generation: str | None
    choices: list[str] | None
    answer_index: int | None
    own: dict[str, Any]

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands among those of a row."""
        return list(LANGUAGES).index(self.language), list(VARIANTS).index(self.variant)


@dataclass
class _Row:
    """A row that is being filled with conversations, in the order in which they are read again."""

    told: list[_Told] = field(default_factory=list)

    def takes(self, one: _Told) -> bool:
        """Whether a conversation is the next of this row: of the same problem, and alike where columns are shared."""
        if not self.told or one.place <= self.told[-1].place:
            return not self.told
        return all(self._alike(one, other) for other in self.told)

    @staticmethod
    def _alike(one: _Told, other: _Told) -> bool:
        """Whether two conversations can share the columns that both have."""
        if VARIANTS[one.variant][0] == VARIANTS[other.variant][0] and one.picture != other.picture:
            return False
        if one.language == other.language and one.generation != other.generation:
            return False
        if CAPTION in (one.variant, other.variant):  # a caption's problem is that of its figure
            longer, shorter = sorted((f"{one.problem}/", f"{other.problem}/"), key=len, reverse=True)
            return longer.startswith(shorter)
        shared = ("problem", "choices", "answer_index", *(("reasoning",) if one.language == other.language else ()))
        return all(getattr(one, name) == getattr(other, name) for name in shared)

    def columns(self) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys((*PICTURES, *LANGUAGES.values(), "choices", "answer_index"))
        for one in self.told:
            picture, text = VARIANTS[one.variant]
            row[picture] = {"bytes": one.picture, "path": None}
            spoken = row[LANGUAGES[one.language]] or dict.fromkeys(TEXTS)
            spoken |= {text: one.text, GENERATION: one.generation}
            if one.variant != CAPTION:
                spoken[REASONING] = one.reasoning
                row |= {"choices": one.choices, "answer_index": one.answer_index}
            row[LANGUAGES[one.language]] = spoken
        problem = next((one for one in self.told if one.variant != CAPTION), self.told[0]).problem
        own: dict[str, dict[str, Any]] = {}
        for one in self.told:
            slot = _slot(one.variant, one.language)
            name = one.own["id"]
            own[slot] = one.own if name != _id(problem, one.variant, one.language) else _without(one.own, "id")
        own = {slot: value for slot, value in own.items() if value}
        return row | {"id": problem, KEY: dumps(own, f"problem {problem!r}") if own else None}


def write(conversations: Iterable[Conversation], path: Path) -> int:
    """A Parquet file of MAVIS' columns; pictures go in as the bytes they are. Returns the number of conversations.

    Conversations of a problem that follow one another share a row, with the caption that stands before them where it
    has the same picture. Media paths start from the folder of the file.

    Raises:
        ConfigError: another file ending, or no pyarrow.
        DataError: a record that is neither a caption nor a problem.
        MediaError: a picture that is missing or is none.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise ConfigError(f"{path} is written by pyarrow; install it: pip install 'mminstruct[tables]'") from None
    if path.suffix != ".parquet":
        raise ConfigError(f"{path}: a table of MAVIS' ends in .parquet; rename it")
    schema = _schema()
    count = 0
    with atomic_path(path) as temporary, pyarrow.parquet.ParquetWriter(temporary, schema) as table:
        row, ready = _Row(), list[dict[str, Any]]()
        for conversation in unique(conversations, path):
            one = _told(conversation, path.parent.resolve())
            if not row.takes(one):
                ready.append(row.columns())
                row = _Row()
            row.told.append(one)
            count += 1
            if len(ready) == _ROWS:
                table.write_table(pyarrow.Table.from_pylist(ready, schema))
                ready = []
        ready += [row.columns()] if row.told else []
        table.write_table(pyarrow.Table.from_pylist(ready, schema))
    return count


def _told(conversation: Conversation, root: Path) -> _Told:
    where = f"conversation {conversation.id!r}"
    variant = (conversation.task or "").removeprefix(TASK)
    if variant not in VARIANTS or conversation.task == variant:
        raise DataError(
            f"{where} is of the task {conversation.task!r}, and MAVIS has "
            f"{', '.join(TASK + one for one in VARIANTS)}; write another format (native, messages)"
        )
    places(conversation, where, "mavis")  # refuses videos
    question, reply = _turns(conversation, where)
    extra = dict(conversation.extra or {})
    language = extra.get("language", "en")
    if language == "zh":
        del extra["language"]
    generation = extra.pop(GENERATION, None)
    problem = conversation.id.removesuffix(f"/{_slot(variant, language)}")
    if variant != CAPTION:
        problem = extra.pop("problem", None)
    if language not in LANGUAGES or not isinstance(problem, str) or not isinstance(generation, str | None):
        raise DataError(
            f"{where} needs the name of its problem as extra['problem'], a text; its language is "
            f"{' or '.join(LANGUAGES)}, and {GENERATION!r}, where it is there, a text"
        )
    options, index = _indexed(conversation) if variant != CAPTION else (None, None)
    picture = encoded(conversation.media[0].path, root, where)
    name = Pictures(None).keep(picture, where)
    media = [conversation.media[0].model_copy(update={"path": name})]
    dropped = {"task": None, "extra": extra if extra or conversation.extra == {} else None, "media": media}
    dropped |= {} if options is None else {"options": None, "answers": None}
    more, more_of_turns = pack(conversation.model_copy(update=dropped), [0], _KEYS)
    if any(more_of_turns):
        raise DataError(f"{where} has the key {_KEYS.turns!r} in its extra, which is this format's own; rename it")
    own = {"id": conversation.id} | more
    text = reply if variant == CAPTION else _bare(question, options, language)
    if not text or not reply:
        raise DataError(f"{where} has an empty question or answer, which MAVIS has no place for; drop it")
    read_as = "" if variant == CAPTION else _shown(text, options, language)
    if question != read_as:
        own["question"] = question
    reasoning = None if variant == CAPTION else reply
    return _Told(variant, language, problem, picture, text, reasoning, generation, options, index, own)


def _turns(conversation: Conversation, where: str) -> tuple[str, str]:
    """(question, answer) of a picture, a question below it, and an answer of text."""
    turns = conversation.messages
    if [turn.role for turn in turns] == ["user", "assistant"]:
        asked, answered = turns[0].content, turns[1].content
        shown = len(conversation.media) == 1 and bool(asked) and isinstance(asked[0], ImagePart)
        words = [part.text for part in (*asked[1:], *answered) if isinstance(part, TextPart)]
        below = [words[0][1:]] if len(asked) == 2 and words and words[0].startswith("\n") and words[0] != "\n" else []
        if shown and len(answered) == 1 and len(asked) == 1 + len(below) and len(words) == 1 + len(below):
            return (below or [""])[0], words[-1]
    raise DataError(
        f"{where} has other turns than MAVIS': a picture, below it (behind a line break) a question, and an answer of "
        f"text; write another format (native, messages)"
    )


def _indexed(conversation: Conversation) -> tuple[list[str] | None, int | None]:
    """The choices and the number of the right one, where the only answer is its letter."""
    options, answers = conversation.options, conversation.answers
    letters = _LETTERS[: len(options or ())]
    if not options or answers is None or len(answers) != 1 or answers[0] not in [*letters]:
        return None, None
    return options, letters.index(answers[0])


def _bare(question: str, options: list[str] | None, language: str) -> str:
    """A question without its choices, where they stand as `_shown` puts them."""
    return question if options is None else question.removesuffix(_listing(options, language))


def _without(value: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: one for name, one in value.items() if name != key}


def _schema() -> pyarrow.Schema:
    """The columns, with what Hugging Face datasets notes of them, so that it shows the pictures."""
    import pyarrow

    text = pyarrow.string()
    picture = pyarrow.struct([("bytes", pyarrow.binary()), ("path", text)])
    said = pyarrow.struct([(name, text) for name in TEXTS])
    as_text = {"dtype": "string", "_type": "Value"}
    features: dict[str, Any] = {name: {"_type": "Image"} for name in PICTURES}
    features |= {
        "answer_index": {"dtype": "int32", "_type": "Value"},
        "choices": {"feature": as_text, "_type": "Sequence"},
        **{name: dict.fromkeys(TEXTS, as_text) for name in LANGUAGES.values()},
        "id": as_text,
        KEY: as_text,
    }
    return pyarrow.schema(
        [
            *((name, picture) for name in PICTURES),
            ("answer_index", pyarrow.int32()),
            ("choices", pyarrow.list_(text)),
            *((name, said) for name in LANGUAGES.values()),
            ("id", text),
            (KEY, text),
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
