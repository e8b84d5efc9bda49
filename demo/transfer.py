"""A conversation out of the page and into it again: a zip file of a data set (docs/data-sets.md) with one record.

    turns ──export──▶ conversation.zip: manifest.json, shard-00000.jsonl, images/000.png, videos/001.mp4
    zip ──unpacked within limits──▶ record ──load──▶ turns, their media through the gate, and the system text

Unpacked, the file is training data like any other: `mminstruct data check`, `data view` and `train` take the folder.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mminstruct import __version__
from mminstruct.conversation import Conversation, Media, Message, Provenance, TextPart
from mminstruct.demo.uploads import Shown, ShownMedium, Uploads
from mminstruct.errors import DataError
from mminstruct.files import bytes_sha256
from mminstruct.formats import native
from mminstruct.media import FrameSampling, Video, image_suffix
from mminstruct.media.archive import ArchiveLimits, extract
from mminstruct.serving.chat import Framing, Turn, conversation_of

BUILDER = "chat-demo"
ANSWERED_BY = "answered_by"  # in `extra`: the model's name for each answer
FILE = "conversation.zip"
LIMITS = ArchiveLimits(max_members=200, max_bytes=512 * 2**20, max_depth=4)
MAX_TURNS = 200


@dataclass(frozen=True)
class Record:
    """A conversation and, beside each of its media, the file that holds it."""

    conversation: Conversation
    files: tuple[Path, ...]


def record_of(turns: Sequence[Turn], framing: Framing) -> Record:
    """The answered turns as one record, as the model saw them; media have the paths that they get in a data set.

    Raises `DataError` where nothing is answered, or the file of a medium is gone.
    """
    answered = [turn for turn in turns if turn.counts and (turn.answer or "").strip()]
    if not answered:
        raise DataError("nothing is answered yet, so there is no conversation to write; ask a question first")
    asked, opened = conversation_of(answered, framing)
    last = Message(role="assistant", content=[TextPart(text=(answered[-1].answer or "").strip())])
    shown = [medium for turn in answered for medium in _shown(turn)]
    if len(shown) != len(opened):
        raise DataError("a picture or video of this conversation has no file; clear the chat and add it again")
    media = [_media(one, medium, number) for number, (one, medium) in enumerate(zip(shown, opened, strict=True))]
    names = [turn.attachment.model if isinstance(turn.attachment, Shown) else None for turn in answered]
    whole = Conversation(
        id=BUILDER,
        messages=[*asked.messages, last],
        media=media,
        extra={ANSWERED_BY: names},
        provenance=Provenance(builder=BUILDER, version=__version__),
    )
    # The same conversation has the same id, whenever it is written.
    named = whole.model_copy(update={"id": f"{BUILDER}/{bytes_sha256(native.line(whole).encode())[:16]}"})
    return Record(named, tuple(one.file for one in shown))


def _shown(turn: Turn) -> Sequence[ShownMedium]:
    return turn.attachment.media if isinstance(turn.attachment, Shown) else ()


def _media(shown: ShownMedium, medium: object, number: int) -> Media:
    try:
        data = shown.file.read_bytes()
    except OSError:
        raise DataError(f"the file {shown.file.name} has expired; clear the chat and add it again") from None
    digest = bytes_sha256(data)
    if isinstance(medium, Video):
        width, height = medium.size
        path = f"videos/{number:03d}{shown.file.suffix.lower()}"
        times = list(medium.timestamps)
        return Media(kind="video", path=path, sha256=digest, width=width, height=height, timestamps=times)
    width, height = medium.size  # type: ignore[attr-defined]  # the other kind is a picture
    return Media(path=f"images/{number:03d}{image_suffix(data)}", sha256=digest, width=width, height=height)


def write_media(record: Record, folder: Path) -> None:
    """Copy the files of a record to their places below `folder`."""
    for media, file in zip(record.conversation.media, record.files, strict=True):
        target = folder / media.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())


def export(turns: Sequence[Turn], framing: Framing, folder: Path) -> Path:
    """Write `conversation.zip` into a folder. Raises `DataError` as `record_of` does."""
    record = record_of(turns, framing)
    data_set = folder / "data-set"
    native.write([record.conversation], data_set, builder={"name": BUILDER, "version": __version__})
    write_media(record, data_set)
    path = folder / FILE
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(found for found in data_set.rglob("*") if found.is_file()):
            compression = zipfile.ZIP_DEFLATED if file.suffix in (".json", ".jsonl") else zipfile.ZIP_STORED
            archive.write(file, file.relative_to(data_set).as_posix(), compression)
    return path


@dataclass(frozen=True)
class Loaded:
    """The turns of a record, and its system text, if it has one."""

    turns: list[Turn]
    system: str | None


def load(archive: Path, uploads: Uploads, sampling: FrameSampling, framing: Framing) -> Loaded:
    """The conversation in a zip file that `export` wrote, or in another one with a data set of one such record.

    Args:
        sampling: which frames are taken of videos.
        framing: its instruction is taken out of the first question, before which it will stand again.

    Raises:
        DataError: no such file, or a record that a chat cannot go on from.
        MediaError: a file of it that cannot be opened.
    """
    uploads.require_own(archive)
    unpacked = uploads.new_folder("opened")
    folder = unpacked.path / "data-set"
    try:
        extract(archive, folder, LIMITS)
        conversations = list(native.read(folder))
    except DataError as error:
        told = (
            str(error).replace(str(archive), archive.name).replace(f"{folder}/", "").replace(str(folder), archive.name)
        )
        raise DataError(told) from None
    if len(conversations) != 1:
        raise DataError(f"{archive.name} holds {len(conversations)} conversations; give a file with one")
    return _turns(conversations[0], folder, uploads, sampling, framing)


def _turns(
    conversation: Conversation, folder: Path, uploads: Uploads, sampling: FrameSampling, framing: Framing
) -> Loaded:
    messages = list(conversation.messages)
    system = messages.pop(0).text if messages and messages[0].role == "system" else None
    roles = [message.role for message in messages]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        raise DataError("the conversation is no row of questions, each with one answer; a chat cannot go on from it")
    if len(roles) // 2 > MAX_TURNS:
        raise DataError(f"the conversation has {len(roles) // 2} questions; at most {MAX_TURNS} are opened")
    names = (conversation.extra or {}).get(ANSWERED_BY)
    turns = []
    for number, (question, answer) in enumerate(zip(messages[::2], messages[1::2], strict=True)):
        if any(not isinstance(part, TextPart) for part in answer.content):
            raise DataError("an answer of the conversation has pictures; a chat cannot go on from it")
        records = [conversation.media[part.index] for part in question.content if not isinstance(part, TextPart)]
        media, shown = uploads.open([_file(folder, record) for record in records], sampling)
        name = names[number] if isinstance(names, list) and number < len(names) else None
        shown.model = name if isinstance(name, str) else None
        text = question.text.lstrip("\n")
        if number == 0 and framing.instruction:
            text = text.removeprefix(f"{framing.instruction}\n\n")
        turns.append(Turn(text, media, answer=answer.text, attachment=shown))
    return Loaded(turns, system)


def _file(folder: Path, record: Media) -> Path:
    """Where a medium of the record lies. Raises `DataError` where that is outside of the folder."""
    path = folder / PurePosixPath(record.path)
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        raise DataError(f"the conversation names the file {record.path[:100]!r}, which is not in the zip file")
    return path
