"""Files of JSON items: a JSON list or JSON lines, read one item at a time and written so that they appear whole.

    file ──▶ (where, item), (where, item), ...        items ──▶ file

A JSON list, and an object of many members, is decoded item by item, so a file of any size needs the memory of its
largest item.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TextIO

from pydantic import ValidationError

from mminstruct.conversation import Conversation
from mminstruct.errors import DataError, PlacesError, RoleError
from mminstruct.files import atomic_file, each_jsonl, read_jsonl

Duplicates = Literal["error", "number"]
Each = tuple[str, Callable[[], Conversation]]
"""An item: where it stands, and what makes its conversation or raises a `DataError`; so a broken one stops no other."""

_CHUNK = 1 << 20
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_SPACE = re.compile(r"[ \t\n\r]*")


def read_items(path: Path) -> Iterator[tuple[str, Any]]:
    """(where it stands, value) of each item of a JSON list or of JSON lines; the first character says which.

    Raises:
        DataError: the file is missing, is not UTF-8 or is not JSON, with the line.
    """
    with _opened(path) as text:
        if text.peek() == "[":
            yield from _list_items(path, text)
            return
    for number, value in read_jsonl(path):
        yield f"{path}:{number}", value


def read_members(path: Path, under: str | None = None) -> Iterator[tuple[str, str, Any]]:
    """(where it stands, name, value) of each member of a file's JSON object, or of the object that is its `under`.

    Raises:
        DataError: the file is missing, is not UTF-8 or is no JSON object, with the line.
    """
    with _opened(path) as text:
        for name in _names(text):
            if under is None:
                yield f"{path}, {name!r}", name, text.value()
            elif name == under:
                for inner in _names(text):
                    yield f"{path}, {inner!r}", inner, text.value()
            else:
                text.value()
        if text.peek():
            raise text.error("there is more after the object", text.at)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Text]:
    try:
        with path.open(encoding="utf-8") as stream:
            yield _Text(path, stream)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path and its rights") from None


def _names(text: _Text) -> Iterator[str]:
    """Each member's name; the text then stands on its value, which whoever iterates takes."""
    if text.peek() != "{":
        raise text.error("expecting an object", text.at)
    text.at += 1
    separator = ","
    if text.peek() == "}":
        text.at += 1
        return
    while separator == ",":
        text.peek()
        name = text.value()
        if not isinstance(name, str) or text.peek() != ":":
            raise text.error("expecting a name and ':'", text.at)
        text.at += 1
        text.peek()
        yield name
        separator = text.peek()
        if separator not in (",", "}"):
            raise text.error("expecting ',' or '}' after a member", text.at)
        text.at += 1


def _list_items(path: Path, text: _Text) -> Iterator[tuple[str, Any]]:
    text.at += 1  # the opening bracket
    index = 0
    if text.peek() == "]":
        return
    while True:
        yield f"{path}, item {index}", text.value()
        index += 1
        separator = text.peek()
        if separator not in (",", "]"):
            raise text.error("expecting ',' or ']' after an item", text.at)
        text.at += 1
        if separator == "]":
            break
        text.peek()
    if text.peek():
        raise text.error("there is more after the list", text.at)


class _Text:
    """A growing piece of a JSON text, of which the part before `at` is done with."""

    def __init__(self, path: Path, stream: TextIO) -> None:
        self.path = path
        self.stream = stream
        self.piece = ""
        self.at = 0
        self.line = 1  # of the piece's first character
        self.decoder = json.JSONDecoder()

    def more(self) -> bool:
        """Drop what is done with and read on. The piece at least doubles, so a long item is not decoded often."""
        read = self.stream.read(max(_CHUNK, len(self.piece) - self.at))
        self.line += self.piece.count("\n", 0, self.at)
        self.piece = self.piece[self.at :] + read
        self.at = 0
        return bool(read)

    def peek(self) -> str:
        """The next character that is not white space, or '' at the end; `at` then stands on it."""
        while True:
            space = _SPACE.match(self.piece, self.at)
            self.at = space.end() if space else self.at
            if self.at < len(self.piece):
                return self.piece[self.at]
            if not self.more():
                return ""

    def value(self) -> Any:
        ended = False
        while True:
            try:
                value, self.at = self.decoder.raw_decode(self.piece, self.at)
                return value
            except json.JSONDecodeError as error:
                # The piece may stop inside an item; only when the file has ended is the text wrong for certain.
                if ended:
                    raise self.error(error.msg, error.pos) from None
                ended = not self.more()
            except RecursionError:
                raise self.error("nested too deeply", self.at) from None

    def error(self, problem: str, position: int) -> DataError:
        line = self.line + self.piece.count("\n", 0, position)
        return DataError(f"{self.path}:{line} is not JSON ({problem}); mend or rewrite the file")


def write_list(path: Path, items: Iterable[tuple[str, Any]]) -> int:
    """A JSON list of (where it comes from, item), one item a line. Returns the number of items."""
    count = 0
    with atomic_file(path) as stream:
        for where, item in items:
            stream.write(("[\n" if count == 0 else ",\n") + dumps(item, where))
            count += 1
        stream.write("[]\n" if count == 0 else "\n]\n")
    return count


def write_lines(path: Path, items: Iterable[tuple[str, Any]]) -> int:
    """JSON lines of (where it comes from, item). Returns the number of items."""
    count = 0
    with atomic_file(path) as stream:
        for where, item in items:
            stream.write(dumps(item, where) + "\n")
            count += 1
    return count


def dumps(item: Any, where: str) -> str:
    """One line of JSON in UTF-8.

    Raises:
        DataError: the item holds NaN or infinity, which JSON has not, or half a surrogate pair, which UTF-8 has not.
    """
    try:
        line = _ENCODER.encode(item)
        line.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(
            f"{where} has a text with half a surrogate pair, which is no character; mend the text"
        ) from None
    except ValueError:
        raise DataError(f"{where} has a number that is NaN or infinite, which JSON cannot hold; drop it") from None
    return line


def unique(
    conversations: Iterable[Conversation], where: str | Path, duplicates: Duplicates = "error"
) -> Iterator[Conversation]:
    """The conversations, each id once. It holds the ids, and nothing else, in memory.

    Args:
        duplicates: what a repeated id does: `error`, or `number` for `17`, `17#2`, `17#3`.

    Raises:
        DataError: an id comes again and `duplicates` is `error`.
    """
    seen: set[str] = set()
    copies: dict[str, int] = {}
    for conversation in conversations:
        name = conversation.id
        if name in seen:
            if duplicates == "error":
                raise DataError(
                    f"{where}: two conversations have the id {name!r}; give each its own, "
                    f"or number them (--duplicate-ids number, or duplicate_ids='number' in Python)"
                )
            while conversation.id in seen:
                copies[name] = copies.get(name, 1) + 1
                conversation = conversation.model_copy(update={"id": f"{name}#{copies[name]}"})
        seen.add(conversation.id)
        yield conversation


def record(fields: dict[str, Any], where: str) -> Conversation:
    """The conversation of these fields. Raises `DataError` with the first thing that is wrong with them."""
    try:
        return Conversation.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        problem = first["msg"].removeprefix("Value error, ")
        # A conversation itself refuses only what its media and their places are.
        kind = PlacesError if not key else RoleError if key.endswith(".role") else DataError
        raise kind(f"{where}: {f'{key}: ' if key else ''}{problem}; mend or drop it") from None


def read_each(
    path: Path, turns: str, from_item: Callable[[dict[str, Any], str, str], Conversation], duplicates: Duplicates
) -> Iterator[Conversation]:
    """The conversations of a file of items that are objects.

    Args:
        turns: the key that every item has.
        from_item: makes a conversation of (item, id, where it stands).
    """
    return unique((make() for _, make in each_item(path, turns, from_item)), path, duplicates)


def each_item(path: Path, turns: str, from_item: Callable[[dict[str, Any], str, str], Conversation]) -> Iterator[Each]:
    """The items of a file, each to be made by itself; see `read_each`.

    Raises:
        DataError: the file cannot be read, or is a list that is no JSON from some place on. A broken line is not raised
            here but by what it should have made.
    """
    for position, (where, value) in enumerate(each_value(path)):
        yield where, functools.partial(_made, value, turns, from_item, position, path, where)


def _made(
    value: Any,
    turns: str,
    from_item: Callable[[dict[str, Any], str, str], Conversation],
    position: int,
    path: Path,
    where: str,
) -> Conversation:
    if isinstance(value, DataError):
        raise value
    if not isinstance(value, dict):
        raise DataError(f"{where} is a {type(value).__name__}; an item is an object with {turns!r}")
    return from_item(value, id_of(value, position, path, where), where)


def each_value(path: Path) -> Iterator[tuple[str, Any]]:
    """As `read_items`, but a line that is no JSON is given as the error that it is."""
    if _is_list(path):
        yield from read_items(path)
        return
    for number, value in each_jsonl(path):
        yield f"{path}:{number}", value


def _is_list(path: Path) -> bool:
    with _opened(path) as text:
        return text.peek() == "["


def id_of(item: dict[str, Any], position: int | str, path: Path, where: str) -> str:
    """The item's id, or its place in the file where it has none. Whole numbers become text.

    Raises:
        DataError: the id is neither a text nor a whole number.
    """
    value = item.get("id")
    if value is None:
        return f"{path.stem}/{position}"
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise DataError(f"{where} has an id that is a {type(value).__name__}; ids are texts or whole numbers")
    return str(value)
