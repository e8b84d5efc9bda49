"""What a check can find, each kind with a code, and the list of what it found.

`KINDS` names the kinds: what each is, how a person mends it, and whether `--repair` can or leaves the conversation out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Kind:
    """
    Attributes:
        what: the problem, for tables.
        repair: what to do.
        drops: whether a repaired data set is without such a conversation; otherwise it is mended, or nothing is lost.
    """

    what: str
    repair: str
    drops: bool = True


_FETCH = "fetch or write the file again, or drop the conversation"

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "unreadable": Kind("an item is no conversation", "mend or drop the item"),
        "places": Kind("media and their places in the turns differ", "give each medium its place, or drop the item"),
        "role": Kind("a turn is of an unknown role", "name the roles that the format knows"),
        "turn-order": Kind("turns are out of order", "put the turns in order, or drop the conversation"),
        "empty-turn": Kind("a turn says nothing", "drop the turns from there on, or the conversation"),
        "empty-answer": Kind("an answer says nothing", "drop the turns from there on, or the conversation"),
        "cut-off": Kind("an answer is cut off", "ask again with a greater length, or drop the conversation"),
        "options": Kind("the answer is none of the options", "mend options or answer"),
        "preference": Kind("both continuations are the same", "drop the pair"),
        "facts": Kind(
            "the evidence in extra.facts is broken", "mend it (docs/data-sets.md), or leave it out", drops=False
        ),
        "duplicate-id": Kind("an id comes twice", "number them (--duplicate-ids number)", drops=False),
        "duplicate": Kind("a conversation comes twice", "drop the later one"),
        "media-missing": Kind("a media file is not there", "check --media-root, fetch it, or drop the conversation"),
        "media-empty": Kind("a media file has no bytes", _FETCH),
        "media-broken": Kind("a media file cannot be decoded", _FETCH),
        "media-large": Kind("a picture is too large", "make it smaller, or raise --max-pixels or --max-bytes"),
        "media-misnamed": Kind("a picture is not what its name says", "rename the file", drops=False),
        "media-changed": Kind("a media file is not the one of the record", "copy the media again, or build anew"),
        "media-size": Kind("a picture has another size than its record", "correct width and height", drops=False),
        "shard-missing": Kind("a shard of the manifest is not there", "copy the data set again", drops=False),
        "shard-changed": Kind("a shard is not the manifest's", "copy or build the data set again", drops=False),
        "shard-count": Kind("a shard has not as many records as the manifest says", "build it again", drops=False),
        "leak": Kind("a picture is one of the other data set, byte for byte", "drop the conversation"),
        "leak-near": Kind("a picture looks like one of the other data set", "look at both, and drop the conversation"),
    }
)


@dataclass
class Finding:
    """One thing that is wrong.

    Attributes:
        where: file and line, item, row or sample.
        id: of the conversation, where it has one that can be read.
        what: one line.
        uses: how many conversations have it; more than one for a picture that several show.
    """

    code: str
    where: str
    id: str | None
    what: str
    uses: int = 1

    def fields(self) -> dict[str, Any]:
        found = {"code": self.code, "where": self.where, "id": self.id, "what": self.what, "uses": self.uses}
        return found | {"repair": KINDS[self.code].repair}


@dataclass
class Findings:
    """
    Attributes:
        most: of each code so many are kept; all are counted.
        kept: in the order in which they were found.
        counts: by code.
    """

    most: int
    kept: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, code: str, where: str, id: str | None, what: str) -> Finding:
        finding = Finding(code, where, id, " ".join(what.split()))
        self.counts[code] += 1
        if self.counts[code] <= self.most:
            self.kept.append(finding)
        return finding
