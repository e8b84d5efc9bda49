"""MIMIC-IT: instructions that name their pictures and the instructions that stand before them as examples.

    OUT/XX_instructions.json   {"meta": {...}, "data": {"XX_INS_1": {"instruction", "answer", "image_ids": ["XX_IMG_a"],
                                                                     "rel_ins_ids": ["XX_INS_0"]}, ...}}
    OUT/XX_train.json          {"XX_INS_1": ["XX_INS_0"], ...}: what is trained on, after which examples; without it all
                               of `data`, after their `rel_ins_ids`
    OUT/XX.json                {"XX_IMG_a": base64, ...}, or XX.parquet: the picture's id as index, a column `base64`

Each entry of XX_train.json is a conversation: its examples are the earlier turns, `context_ids` their names. A turn
shows its pictures in front of its instruction, unless they are those of the turn before: then the conversation is about
one picture. What else a record has stands in three further keys of an instruction, which Otter's training code does not
read: `id`, where the record is called otherwise; `parts`, each turn's texts and the numbers of its pictures, where they
stand in another order; and `mminstruct` (`mminstruct.formats.rest`). Instructions wait in a temporary database, so no
file has to fit into memory.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mminstruct.conversation import Conversation, ImagePart, Media, Message, Part, TextPart
from mminstruct.errors import ConfigError, DataError
from mminstruct.files import bytes_sha256, new_folder
from mminstruct.formats.embedded import LIMIT, encoded, is_file_name
from mminstruct.formats.items import dumps, read_members, unique
from mminstruct.formats.mimic_it_files import Database, Files, locate, read_images
from mminstruct.formats.rest import KEY, Keys, pack, places, unpack
from mminstruct.media import decode_base64, image_suffix

_KEYS = Keys(
    turns="mimic_it.turns",  # a turn has no keys of its own here
    item=frozenset({"instruction", "answer", "image_ids", "rel_ins_ids", "id", "parts", "mimic_it.turns", KEY}),
    turn=frozenset(),
)
_INSTRUCTION = re.compile(r"\w+_INS_.+", re.DOTALL)
_PICTURE = re.compile(r"\w+_IMG_.+", re.DOTALL)


def is_one(path: Path) -> bool:
    """Whether a path is a file of instructions, or a folder with one."""
    return path.name.endswith(Files.INSTRUCTIONS) if path.is_file() else any(path.glob(f"*{Files.INSTRUCTIONS}"))


def files(path: Path) -> list[Path]:
    """The files of a data set. Raises `DataError` where there is none, or several and none is named."""
    return locate(path).all()


def embeds(path: Path) -> bool:
    """Whether the data set has pictures; a set of texts alone needs no file of them."""
    return bool(locate(path).images)


def read(path: Path, *, unpack: Path | None = None) -> Iterator[Conversation]:
    """The conversations of a data set, in the order of XX_train.json.

    Args:
        unpack: the folder that pictures are written to, as `images/ID.png`; None: only their names are made.

    Raises:
        DataError: an instruction that is not as described, or that names one or a picture that is not there.
        MediaError: a picture's text that is not base64.
    """
    found = locate(path)
    with Database() as known:
        for where, name, item in read_members(found.instructions, "data"):
            known.add(name, _checked(item, where), where)
        for where, name, data in read_images(found.images):
            known.add_picture(name, _kept(name, data, unpack, where), where)
        for where, name, related in _links(found, known):
            yield _conversation(name, related, known, where)


def _links(found: Files, known: Database) -> Iterator[tuple[str, str, list[str]]]:
    """(where it is said, instruction, its examples) of all that is trained on."""
    if found.train is None:
        for name in known.names():
            yield f"{found.instructions}, {name!r}", name, known.item(name, "")["rel_ins_ids"]
        return
    for where, name, related in read_members(found.train):
        if not isinstance(related, list) or not all(isinstance(one, str) for one in related):
            raise DataError(f"{where} is no list of instruction ids; mend or drop it")
        yield where, name, related


def _checked(item: Any, where: str) -> dict[str, Any]:
    """An instruction with all of its keys. Published ones leave `image_ids` out, or null, where there is no picture."""
    if not isinstance(item, dict):
        raise DataError(f"{where} is a {type(item).__name__}; an instruction is an object")
    for key in ("instruction", "answer"):
        if not isinstance(item.get(key), str):
            raise DataError(f"{where} needs a text under {key!r}")
    lists = {key: item.get(key) or [] for key in ("image_ids", "rel_ins_ids")}
    for key, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise DataError(f"{where} has {key!r} that are no list of ids; leave the key out for none")
    if not isinstance(item.get("id", ""), str):
        raise DataError(f"{where} has an 'id' that is no text; it is this project's own, remove it")
    return item | lists


def _kept(name: str, text: Any, folder: Path | None, where: str) -> str:
    """The path of a picture below the folder, where it is written to."""
    if not isinstance(text, str):
        raise DataError(f"{where} is a {type(text).__name__}; a picture is a base64 text")
    if len(text) * 3 // 4 > LIMIT + 2:  # base64 grows by 4/3; measured before decoding
        raise DataError(f"{where} has a picture of more than {LIMIT:,} bytes; drop it")
    data = decode_base64(text)
    path = _path(name, data, where)
    if folder is not None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return path


def _path(name: str, data: bytes, where: str) -> str:
    """The file of a picture of this id, which must be no path that leads elsewhere."""
    if not is_file_name(name):
        raise DataError(f"{where}: the picture's id {name[:80]!r} can be no file's name; give it a shorter, plain one")
    return f"images/{name}{image_suffix(data)}"


def _conversation(name: str, related: Sequence[str], known: Database, where: str) -> Conversation:
    items = [known.item(one, where) for one in (*related, name)]
    own = items[-1]
    parts = own.get("parts")
    if parts is not None and (not isinstance(parts, list) or len(parts) != len(items)):
        raise DataError(f"{where} has 'parts' that do not fit its turns; it is this project's own key, remove it")
    messages: list[Message] = []
    paths: list[str] = []
    shown: list[str] = []
    for number, item in enumerate(items):
        ids = item["image_ids"]
        layout = _plain(item["instruction"], ids, shown) if parts is None else parts[number]
        content: list[Part] = []
        for part in layout if isinstance(layout, list) else [None]:
            if type(part) is int and 0 <= part < len(ids):
                content.append(ImagePart(index=len(paths)))
                paths.append(known.picture(ids[part], where))
            elif isinstance(part, str):
                content.append(TextPart(text=part))
            else:
                raise DataError(
                    f"{where} has 'parts' that do not fit its turns; it is this project's own key, remove it"
                )
        if parts is not None and _said(content) != item["instruction"]:
            raise DataError(f"{where} has 'parts' whose text is not the instruction; remove the key")
        messages.append(Message(role="user", content=content))
        answer: list[Part] = [TextPart(text=item["answer"])] if item["answer"] else []
        messages.append(Message(role="assistant", content=answer))
        shown = ids or shown
    turns = [f"{name}#{number}" for number in range(len(related))]
    context = [known.item(one, where).get("id", one) for one in related] if list(related) != turns else []
    rest = own.get(KEY) or {}
    if context and isinstance(rest, dict):
        own = own | {KEY: {"context_ids": context} | rest}
    return unpack(own | {_KEYS.turns: []}, own.get("id", name), messages, paths, _KEYS, f"{where}")


def _plain(instruction: str, ids: list[str], shown: list[str]) -> list[str | int]:
    """How a turn stands that has no `parts`."""
    pictures = [] if ids == shown else list(range(len(ids)))
    return [*pictures, *([instruction] if instruction else [])]


def _said(content: Sequence[Part]) -> str:
    """The text of a turn as its instruction, without the space around it that joins it to pictures."""
    return "".join(part.text for part in content if isinstance(part, TextPart)).strip()


@dataclass(frozen=True)
class _Pair:
    """A turn and its answer, as an instruction and as it stands in its conversation."""

    item: dict[str, Any]
    parts: list[str | int]
    plain: bool


def write(conversations: Iterable[Conversation], path: Path) -> int:
    """A folder of MIMIC-IT, `XX` being the folder's name; pictures go in as the bytes they are.

    Media paths are relative to the new folder, as those of every format. Turns that are examples, by `context_ids` one
    for each earlier answer, are written once, however many conversations have them.

    Raises:
        ConfigError: a name that is no `XX`.
        DataError: a record that the format cannot hold: a video, a system's or a tool's turn, a picture in an answer,
            two different instructions or two different pictures of one id.
        MediaError: a picture that is missing or is none.
    """
    short = path.name
    if not re.fullmatch(r"\w+", short):
        raise ConfigError(f"{path}: the folder's name begins every id, so it has letters, digits and _ only; rename it")
    count = 0
    with new_folder(path) as folder, Database() as known:
        with (folder / f"{short}{Files.PICTURES}").open("w", encoding="utf-8") as stream:
            stream.write("{")
            pictures = _Pictures(short, path.resolve(), known, stream.write)
            for conversation in unique(conversations, path):
                _add(conversation, short, known, pictures)
                count += 1
            stream.write("\n}\n")
        with (folder / f"{short}{Files.INSTRUCTIONS}").open("w", encoding="utf-8") as stream:
            stream.write('{"meta": {"version": "1", "time": "", "author": ""}, "data": {')
            for number, (name, item) in enumerate(known.items()):
                stream.write(f"{',' * (number > 0)}\n{dumps(name, name)}: {dumps(item, name)}")
            stream.write("\n}}\n")
        with (folder / f"{short}{Files.TRAIN}").open("w", encoding="utf-8") as stream:
            stream.write("{")
            for number, (name, related) in enumerate(known.samples()):
                stream.write(f"{',' * (number > 0)}\n{dumps(name, name)}: {dumps(related, name)}")
            stream.write("\n}\n")
    return count


class _Pictures:
    """Writes each picture once, under the id that its file's name gives."""

    def __init__(self, short: str, root: Path, known: Database, write: Callable[[str], object]) -> None:
        self.short, self.root, self.known, self.write = short, root, known, write
        self.first = True

    def keep(self, media: Media, where: str) -> tuple[str, str]:
        """(id, the path that reading gives)."""
        data = encoded(media.path, self.root, where)
        name = bytes_sha256(data)[:16] if media.path.startswith("data:") else Path(media.path).stem
        name = name if _PICTURE.fullmatch(name) else f"{self.short}_IMG_{name}"
        path = _path(name, data, where)
        if self.known.is_new_picture(name, bytes_sha256(data), where):
            self.write(f'{"" if self.first else ","}\n{dumps(name, where)}: "{base64.b64encode(data).decode()}"')
            self.first = False
        return name, path


def _name(short: str, id: str) -> str:
    return id if _INSTRUCTION.fullmatch(id) else f"{short}_INS_{id}"


def _add(conversation: Conversation, short: str, known: Database, pictures: _Pictures) -> None:
    where = f"conversation {conversation.id!r}"
    order = places(conversation, where, "mimicit")
    kept = [pictures.keep(one, where) for one in conversation.media]
    media = [one.model_copy(update={"path": path}) for one, (_, path) in zip(conversation.media, kept, strict=True)]
    more, more_of_turns = pack(conversation.model_copy(update={"media": media}), order, _KEYS)
    if any(more_of_turns):
        raise DataError(f"{where} has the key {_KEYS.turns!r} in its extra, which is this format's own; rename it")
    pairs = list(_pairs(conversation, [name for name, _ in kept], where))
    name = _name(short, conversation.id)
    context = conversation.context_ids or []
    turns = [f"{name}#{number}" for number in range(len(pairs) - 1)]
    related = [_name(short, one) for one in context]
    if len(related) != len(turns) or related == turns:
        related = context = turns
    elif related:
        rest = {key: value for key, value in more.pop(KEY).items() if key != "context_ids"}
        more |= {KEY: rest} if rest else {}
    for one, id, pair in zip(related, context, pairs[:-1], strict=True):
        known.put(one, pair.item | ({"id": id} if id != one else {}), where)
    own = {"id": conversation.id} if conversation.id != name else {}
    if not all(pair.plain for pair in pairs):
        more = {"parts": [pair.parts for pair in pairs]} | more
    known.put(name, pairs[-1].item | own, where)
    known.sample(name, related, more, where)


def _pairs(conversation: Conversation, ids: Sequence[str], where: str) -> Iterator[_Pair]:
    roles = [message.role for message in conversation.messages]
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise DataError(
            f"{where} has the turns {', '.join(roles)}; MIMIC-IT has instructions, each with its answer, and no other "
            f"turns; write another format (messages, native)"
        )
    shown: list[str] = []
    for asked, answered in zip(conversation.messages[::2], conversation.messages[1::2], strict=True):
        if not all(isinstance(part, TextPart) for part in answered.content):
            raise DataError(
                f"{where} has a picture in an answer, which MIMIC-IT has no place for; write another format (native)"
            )
        own: list[str] = []
        parts: list[str | int] = []
        for part in asked.content:
            if isinstance(part, ImagePart):
                parts.append(len(own))
                own.append(ids[part.index])
            elif isinstance(part, TextPart) and part.text:
                last = parts[-1] if parts else None
                parts[-1:] = [last + part.text] if isinstance(last, str) else [*parts[-1:], part.text]
        names = own or shown
        instruction = _said(asked.content)
        yield _Pair(
            {"instruction": instruction, "answer": answered.text, "image_ids": names},
            parts,
            parts == _plain(instruction, names, shown),
        )
        shown = names
