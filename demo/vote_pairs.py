"""Preference pairs out of votes: `votes.jsonl` and its pictures ──▶ a native data set with `preference` records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mminstruct.conversation import Conversation, Media, Message, Preference, Provenance, TextPart
from mminstruct.demo.votes import VERSION, Vote, read_votes
from mminstruct.errors import DataError
from mminstruct.files import bytes_sha256, new_folder, write_bytes
from mminstruct.formats import native


@dataclass
class Pairs:
    """What became of votes: how many pairs, and why others are none."""

    pairs: int = 0
    undecided: int = 0
    same: int = 0


def pair(vote: Vote) -> Conversation | None:
    """The preference pair of a vote: what both sides begin with, then how either went on.

    In a chat of several questions the answers differ from the first one on, so a continuation holds all turns since,
    questions too. None for a tie, for both bad, and where both sides are the same.
    """
    if vote.verdict not in ("left", "right"):
        return None
    better, worse = (vote.left, vote.right) if vote.verdict == "left" else (vote.right, vote.left)
    media: list[Media] = []
    chosen, rejected = _placed(better.conversation, media), _placed(worse.conversation, media)
    common = 0
    while common < min(len(chosen), len(rejected)) and chosen[common] == rejected[common]:
        common += 1
    if common == 0 or common in (len(chosen), len(rejected)):
        return None
    told = {
        name: side.contestant.model_dump(mode="json", exclude_defaults=True)
        for name, side in (("chosen", better), ("rejected", worse))
    }
    return Conversation(
        id=f"votes/{vote.id}",
        messages=chosen[:common],
        media=media,
        preference=Preference(chosen=chosen[common:], rejected=rejected[common:]),
        extra={"vote": {"time": vote.time.isoformat(), "blind": vote.blind, "question": vote.question} | told},
        provenance=Provenance(builder="votes", version=VERSION, parents=[vote.id]),
    )


def _placed(conversation: Conversation, media: list[Media]) -> list[Message]:
    """The messages with places in `media`, to which the conversation's own are added where they are not there yet."""
    places = []
    for medium in conversation.media:
        if medium not in media:
            media.append(medium)
        places.append(media.index(medium))
    return [
        message.model_copy(
            update={
                "content": [
                    part if isinstance(part, TextPart) else part.model_copy(update={"index": places[part.index]})
                    for part in message.content
                ]
            }
        )
        for message in conversation.messages
    ]


def write_pairs(path: Path, out: Path) -> Pairs:
    """A native data set of a vote file's preference pairs, with its pictures.

    Raises:
        DataError: no vote is decided, a line is no vote, or a picture is not where it was kept.
        RunError: `out` exists and is not an empty folder.
    """
    counts = Pairs()

    def records(folder: Path) -> Iterator[Conversation]:
        for vote in read_votes(path):
            found = pair(vote)
            if found is None:
                decided = vote.verdict in ("left", "right")
                counts.same += decided
                counts.undecided += not decided
                continue
            counts.pairs += 1
            yield found.model_copy(update={"media": [_copied(one, path.parent, folder) for one in found.media]})

    with new_folder(out) as folder:
        native.write_into(folder, records(folder), where=out, builder={"name": "votes", "version": VERSION})
    return counts


def _copied(medium: Media, source: Path, folder: Path) -> Media:
    file = source / medium.path
    target = f"images/{Path(medium.path).name}"
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); it belongs to the votes, put it back") from None
    if medium.sha256 is not None and bytes_sha256(data) != medium.sha256:
        raise DataError(f"{file} is not what was voted on (its SHA-256 is another); put it back")
    if not (folder / target).is_file():
        write_bytes(folder / target, data)
    return medium.model_copy(update={"path": target})
