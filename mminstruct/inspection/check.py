"""Checks a data set in one pass: every item by itself, every medium once, several at a time.

    items ──make──▶ conversation ──turns, ids, endings──▶ findings ──▶ Report
              └ broken: a finding, and on        └ media, in threads: there? whole? leaked? ──▶

Held in memory are the ids, sixteen bytes for each conversation and a few hundred for each medium; the rest streams.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from pydantic import Field

from mminstruct import formats
from mminstruct.building.logged import LoggedCalls
from mminstruct.config import Config
from mminstruct.conversation import Conversation, Media
from mminstruct.errors import ConfigError, DataError
from mminstruct.files import sha256
from mminstruct.formats import native
from mminstruct.formats.items import Each
from mminstruct.inspection.endings import Endings
from mminstruct.inspection.findings import KINDS, Finding, Findings
from mminstruct.inspection.looks import RADIUS, NearIndex
from mminstruct.inspection.media import Seen, see
from mminstruct.inspection.turns import fingerprint, problems
from mminstruct.media import ImageLimits

CALLS = "calls.sqlite"
_AHEAD = 16  # conversations of each worker whose media may be on their way
_OWN_CODES = ("places", "role")  # of errors that are kinds of findings


class CheckConfig(Config):
    """
    Attributes:
        format, media_root, split: as `formats.read` takes them.
        workers: media that are opened side by side.
        against: data sets whose pictures must not be in this one.
        radius: how many of 64 bits two pictures that look alike may differ in.
        most: findings of each kind that are kept; all are counted.
        calls: the log of replies; default: the data set's own, where it has one.
    """

    format: str | None = None
    media_root: Path | None = None
    split: str | None = None
    workers: int = Field(default=1, ge=1)
    against: tuple[Path, ...] = ()
    radius: int = Field(default=RADIUS, ge=0, le=20)
    max_pixels: int = Field(default=ImageLimits().max_pixels, ge=1)
    max_bytes: int = Field(default=ImageLimits().max_bytes, ge=1)
    most: int = Field(default=1000, ge=1)
    calls: Path | None = None

    @property
    def limits(self) -> ImageLimits:
        return ImageLimits(max_bytes=self.max_bytes, max_pixels=self.max_pixels)

    @property
    def options(self) -> dict[str, str]:
        return {} if self.split is None else {"split": self.split}


@dataclass
class Report:
    """
    Attributes:
        items: how many there are, broken ones among them.
        media: how many different ones of each kind.
        findings: what is wrong.
        bad: numbers of the items that a mended data set is without.
        media_problems: what is wrong with media, by their paths: the code, and the better ending of a misnamed one.
    """

    items: int
    media: dict[str, int]
    findings: Findings
    bad: set[int] = field(default_factory=set)
    media_problems: dict[str, tuple[str, str | None]] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        return not self.findings.counts


def check(source: Path, config: CheckConfig, advance: Callable[[int], None] | None = None) -> Report:
    """What is wrong with a data set.

    Args:
        advance: called with the number of items so far.

    Raises:
        DataError: it cannot be read at all, or one that it is compared with is broken.
        ConfigError: an option that does not fit.
    """
    format = config.format or formats.detect(source)
    embeds = formats.embeds(source, format, config.options)
    if embeds and config.media_root is not None:
        raise ConfigError(f"the pictures of {source} stand within its files; leave --media-root out")
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(config.workers, thread_name_prefix="check"))
        stack.callback(pool.shutdown, cancel_futures=True)
        unpack = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mminstruct-"))) if embeds else None
        others = _Others(config, pool) if config.against else None
        root = unpack or formats.media_root(source, config.media_root)
        run = _Check(root, config, pool, others, _cut_off(source, config))
        if format == "native":
            run.shards(source)
        run.go(formats.each(source, format, unpack=unpack, **config.options), source, advance)
        return run.report


def _cut_off(source: Path, config: CheckConfig) -> Mapping[str, str]:
    calls = config.calls or (source / CALLS if (source / CALLS).is_file() else None)
    return MappingProxyType({}) if calls is None else LoggedCalls(calls).cut_off()


class _Others:
    """The pictures of other data sets, by their bytes and by their looks."""

    def __init__(self, config: CheckConfig, pool: ThreadPoolExecutor) -> None:
        self.bytes: dict[str, str] = {}
        self.looks = NearIndex(config.radius)
        with tempfile.TemporaryDirectory(prefix="mminstruct-") as folder:
            for number, path in enumerate(config.against):
                self._add(path, Path(folder) / str(number), config, pool)

    def _add(self, path: Path, folder: Path, config: CheckConfig, pool: ThreadPoolExecutor) -> None:
        format = formats.detect(path)
        unpack = folder if formats.embeds(path, format) else None
        root = unpack or formats.media_root(path)
        waiting: deque[tuple[str, Future[Seen]]] = deque()
        known: set[str] = set()
        for conversation in formats.read(path, format, unpack=unpack):
            for medium in conversation.media:
                if medium.kind == "image" and medium.path not in known:
                    known.add(medium.path)
                    waiting.append(
                        (medium.path, pool.submit(see, "image", medium.path, root, config.limits, looks=True))
                    )
            while len(waiting) > config.workers * _AHEAD:
                self._take(path, *waiting.popleft())
        while waiting:
            self._take(path, *waiting.popleft())

    def _take(self, path: Path, name: str, future: Future[Seen]) -> None:
        seen = future.result()
        if seen.problem is not None:
            raise DataError(f"{path} has a picture that cannot be compared with: {seen.problem[1]}; mend it first")
        assert seen.sha256 is not None and seen.look is not None
        if seen.sha256 not in self.bytes:
            self.bytes[seen.sha256] = f"{path}: {name[:200]}"
            self.looks.add(seen.look, f"{path}: {name[:200]}")

    def leak(self, seen: Seen) -> tuple[str, str] | None:
        if seen.sha256 in self.bytes:
            return "leak", f"has the bytes of {self.bytes[seen.sha256]}"
        near = self.looks.find(seen.look) if seen.look is not None else []
        more = f" and {len(near) - 1} more" if len(near) > 1 else ""
        return ("leak-near", f"looks like {near[0]}{more}") if near else None


@dataclass(frozen=True)
class _Known:
    """Of a medium that was looked at, what later conversations with it are compared with."""

    sha256: str | None
    size: tuple[int, int] | None
    finding: Finding | None


class _Check:
    def __init__(
        self,
        root: Path,
        config: CheckConfig,
        pool: ThreadPoolExecutor,
        others: _Others | None,
        cut: Mapping[str, str],
    ) -> None:
        self.root, self.config, self.pool, self.others = root, config, pool, others
        self.findings = Findings(config.most)
        self.report = Report(0, {"image": 0, "video": 0}, self.findings)
        self.ids: dict[str, int] = {}
        self.prints: dict[bytes, str] = {}
        self.endings = Endings(cut)
        self.known: dict[str, _Known] = {}
        self.coming: dict[str, Future[Seen]] = {}
        self.waiting: deque[tuple[int, str, str, list[Media]]] = deque()

    def shards(self, source: Path) -> None:
        """Compare the files of a native data set with its manifest."""
        for shard in native.read_manifest(source).shards:
            file = source / shard.file
            if not file.is_file():
                self.findings.add(
                    "shard-missing", str(file), None, f"its {shard.conversations:,} conversations are lost"
                )
                continue
            if sha256(file) != shard.sha256:
                self.findings.add("shard-changed", str(file), None, "its SHA-256 is not the manifest's")
            with file.open("rb") as stream:
                count = sum(1 for line in stream if line.strip())
            if count != shard.conversations:
                what = f"it has {count:,} records, the manifest says {shard.conversations:,}"
                self.findings.add("shard-count", str(file), None, what)

    def go(self, items: Iterator[Each], source: Path, advance: Callable[[int], None] | None) -> None:
        try:
            for number, (where, make) in enumerate(items):
                self.report.items += 1
                self._item(number, where, make)
                while len(self.waiting) > self.config.workers * _AHEAD:
                    self._media()
                if advance is not None:
                    advance(self.report.items)
        except DataError as error:
            if self.report.items == 0:
                raise
            self.findings.add("unreadable", str(source), None, f"{error} (what follows is not read)")
        while self.waiting:
            self._media()
        for cut in self.endings.found():
            self.report.bad.add(cut.number)
            self.findings.add("cut-off", cut.where, cut.id, cut.what)
        if self.report.items == 0 and not self.findings.counts:
            raise DataError(f"{source} has no conversations; write or fetch the data set again")

    def _add(self, number: int, code: str, where: str, id: str | None, what: str) -> None:
        self.findings.add(code, where, id, what)
        if KINDS[code].drops:
            self.report.bad.add(number)

    def _item(self, number: int, where: str, make: Callable[[], Conversation]) -> None:
        try:
            conversation = make()
        except DataError as error:
            self._add(number, error.code if error.code in _OWN_CODES else "unreadable", where, None, str(error))
            return
        id = conversation.id
        before = self.ids.setdefault(id, number)
        if before != number:
            self._add(number, "duplicate-id", where, id, f"{id!r} is the id of item {before} too, counted from 0")
        print_ = fingerprint(conversation)
        if print_ in self.prints:
            self._add(number, "duplicate", where, id, f"it has the turns and media of {self.prints[print_]!r}")
        else:
            self.prints[print_] = id
        for code, what in problems(conversation):
            self._add(number, code, where, id, what)
        cut = self.endings.take(number, where, conversation)
        if cut is not None:
            self._add(number, "cut-off", where, id, cut)
        for medium in conversation.media:
            if medium.path not in self.known and medium.path not in self.coming:
                self.report.media[medium.kind] += 1
                self.coming[medium.path] = self.pool.submit(
                    see,
                    medium.kind,
                    medium.path,
                    self.root,
                    self.config.limits,
                    looks=self.others is not None and medium.kind == "image",
                )
        if conversation.media:
            self.waiting.append((number, where, id, conversation.media))

    def _media(self) -> None:
        """Compare the media of the conversation that waits longest with what was seen of them."""
        number, where, id, media = self.waiting.popleft()
        told: set[str] = set()
        for medium in media:
            known = self.known.get(medium.path)
            if known is None:
                known = self.known[medium.path] = self._seen(medium.path, self.coming.pop(medium.path), where, id)
            elif known.finding is not None and medium.path not in told:
                known.finding.uses += 1
            told.add(medium.path)
            if known.finding is not None and KINDS[known.finding.code].drops:
                self.report.bad.add(number)
            if medium.sha256 is not None and known.sha256 is not None and medium.sha256 != known.sha256:
                what = f"{medium.path[:200]} has the SHA-256 {known.sha256[:12]}..., its record {medium.sha256[:12]}..."
                self._add(number, "media-changed", where, id, what)
            said = (medium.width, medium.height)
            if None not in said and known.size is not None and said != known.size:
                what = (
                    f"{medium.path[:200]} is {known.size[0]} x {known.size[1]}, the record says {said[0]} x {said[1]}"
                )
                self._add(number, "media-size", where, id, what)
                self.report.media_problems.setdefault(medium.path, ("media-size", None))

    def _seen(self, path: str, future: Future[Seen], where: str, id: str) -> _Known:
        seen = future.result()
        problem, suffix = seen.problem, None
        if problem is None and self.others is not None and (leak := self.others.leak(seen)) is not None:
            problem = leak[0], f"{path[:200]} {leak[1]}"
        if problem is None and seen.suffix is not None:
            suffix = seen.suffix
            problem = "media-misnamed", f"{path[:200]} holds what is named {suffix}"
        finding = None
        if problem is not None:
            finding = self.findings.add(problem[0], where, id, problem[1])
            self.report.media_problems[path] = (problem[0], suffix)
        return _Known(seen.sha256, seen.size, finding)
