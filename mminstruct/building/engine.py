"""Runs a builder: its conversations and media become a native data set that appears whole or not at all.

    builder.items() ──make, in threads──▶ in the items' order ──each checked──▶ OUT.unfinished ──whole──▶ OUT

The manifest notes the builder, its version, every option and the model, and no time, host or folder, so the same
builder with the same options and replies writes the same bytes anywhere, with any number of workers, killed or not.
"""

from __future__ import annotations

import logging
import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field

from mminstruct.building.asking import Asker, AskingConfig
from mminstruct.building.builder import BadItem, Builder, Item
from mminstruct.building.call_log import CallLog
from mminstruct.building.clients import BatchClient, LanguageModelClient, TemplateClient
from mminstruct.building.job import Job, Known
from mminstruct.building.limits import Budget, BudgetConfig, Price, Rate, RateConfig
from mminstruct.building.logged import LoggedCalls
from mminstruct.building.unfinished import BATCHES, CALLS, DeadLetter, Made, PartWriter, UnfinishedBuild, reopen
from mminstruct.building.usage import Usage
from mminstruct.config import Config
from mminstruct.errors import BudgetError, ConfigError, DataError, MediaError, MminstructError, RunError
from mminstruct.formats.native import Manifest

_LOG = logging.getLogger(__name__)
_Any = TypeVar("_Any")
_AHEAD = 16  # items of each worker that may be done before the one whose turn it is


class BuildConfig(Config):
    """How a builder is run; none of it changes the bytes of what is built.

    Attributes:
        workers: items that are made side by side, in threads.
        on_error: whether an item that cannot be used stops the build or is left out and noted.
        max_errors: how many may be left out for that; one more stops the build.
        calls: the file of the log of replies; None: within the build's folder.
        retry: whether items that had failed are tried again; questions whose known replies are all broken are then
            asked in one round more.
    """

    workers: int = Field(default=1, ge=1)
    on_error: Literal["raise", "skip"] = "raise"
    max_errors: int = Field(default=100, ge=0)
    per_shard: int = Field(default=10_000, ge=1)
    calls: Path | None = None
    retry: bool = False
    asking: AskingConfig = AskingConfig()
    budget: BudgetConfig = BudgetConfig()
    rate: RateConfig = RateConfig()


@dataclass(frozen=True)
class Progress:
    """What a build has done so far, in earlier runs too.

    Attributes:
        replies, tokens, cost: of all replies that its questions got, kept or left out, out of the log or not.
        requests: those that were sent in this run, which its budget counts.
    """

    items: int
    conversations: int
    failed: int
    replies: int
    tokens: int
    cost: float
    requests: int


@dataclass
class _Outcome:
    """Of one item: what it gave, or why it cannot be used and the replies that it had by then.

    `where` is the file and line that it comes from, if any.
    """

    item: str
    where: str
    made: Made
    failure: MminstructError | None = None
    call_ids: list[str] = field(default_factory=list)


def run(
    builder: Builder,
    out: Path,
    config: BuildConfig | None = None,
    *,
    client: LanguageModelClient | None = None,
    price: Price | None = None,
    resume: bool = False,
    limit: int | None = None,
    share: tuple[int, int] | None = None,
    advance: Callable[[Progress], None] | None = None,
) -> Manifest:
    """The manifest of the data set that `builder` wrote to `out`.

    Args:
        client: what answers; left out, the prompts' own templates.
        price: of the client's model.
        resume: go on with what an earlier run left in `OUT.unfinished`, where there is something.
        limit: build the first so many items only; the manifest says so.
        share: (i, n): of these, build the items i, i + n, i + 2n, ... only; `join` makes one data set of all shares.
        advance: called after each item.

    Raises:
        RunError: `out` exists and is not an empty folder, or see `UnfinishedBuild`.
        DataError: the builder gave nothing, an id twice, or a record whose media file it did not write.
        BudgetError: the budget is spent; what was built is kept.
    """
    config = config or BuildConfig()
    if client is not None and not builder.asks:
        raise ConfigError(f"{builder.name} asks no model; leave the backend out")
    client = client or TemplateClient()
    note: dict[str, Any] = {
        "name": builder.name,
        "version": builder.version,
        "licence": builder.licence,
        "options": builder.options.model_dump(mode="json"),
    }
    if limit is not None:
        note["limit"] = limit
    if share is not None:
        note["share"] = list(share)
    if builder.asks:
        note["model"] = {
            "backend": client.backend,
            "name": client.model,
            "parameters": config.asking.parameters.model_dump(exclude_none=True),
        }
    budget = Budget(config.budget, price)
    header = note | {"per_shard": config.per_shard}
    if config.retry:
        reopen(out, header)
    build = UnfinishedBuild(out, header, resume or config.retry)
    with ExitStack() as stack:
        try:
            asker = None
            if builder.asks:
                log = stack.enter_context(CallLog(config.calls or build.folder / CALLS))
                usage = Usage(price)
                for call in LoggedCalls(log.path).find(build.figures.calls()):
                    usage.add(call.key, call.reply)
                asker = Asker(client, log, build.folder, config.asking, budget, Rate(config.rate), config.retry, usage)
            first, step = share or (0, 1)
            one = _Run(builder, build, config, asker, slice(first, limit, step), advance)
            if isinstance(client, BatchClient):
                for _ in client.rounds(build.folder / BATCHES, log, budget, config.retry):
                    one.try_all()
            one.go()
            stack.close()  # the log is whole before the folder gets its name
            shutil.rmtree(build.folder / BATCHES, ignore_errors=True)
            return build.finish(note, None if asker is None else config.calls or build.folder / CALLS)
        except BaseException:
            stack.close()
            build.leave()
            if build.folder.is_dir():
                _LOG.warning("what was built is kept in %s; go on with --resume", build.folder)
            raise


def _told(failure: MminstructError, where: str) -> MminstructError:
    """An error of a file with what names the file: that is what is found in a source of many lines."""
    if isinstance(failure, DataError | MediaError) and where not in str(failure):
        return type(failure)(f"{where}: {failure}")
    return failure


class _Run:
    """One run over the items that are left."""

    def __init__(
        self,
        builder: Builder,
        build: UnfinishedBuild,
        config: BuildConfig,
        asker: Asker | None,
        chosen: slice,
        advance: Callable[[Progress], None] | None,
    ) -> None:
        self.builder = builder
        self.build = build
        self.config = config
        self.asker = asker
        self.chosen = chosen
        self.advance = advance
        self.items = build.items
        self.conversations = len(build.ids)
        self.errors = len(build.failed)
        self.names: set[str] = set()
        self.known = Known()
        self.parts = PartWriter(build, config.per_shard)

    def go(self) -> None:
        # Closed, not dropped: where an item stops the build, others are still on their way and have replies to keep.
        with closing(self._in_order(self._left(self._items()))) as all_made:
            for made in all_made:
                self._take(made)
                if self.advance is not None:
                    self.advance(self._progress())
        self.parts.end()

    def try_all(self) -> None:
        """Make the items that are left for the questions that they ask, and keep nothing of them."""
        with closing(self._in_order(self._left(self.builder.items()))) as all_made:
            for _ in all_made:
                pass

    def _left(self, items: Iterable[_Any]) -> Iterator[_Any]:
        """Those of this run that are not done yet."""
        chosen = islice(items, self.chosen.start, self.chosen.stop, self.chosen.step)
        return islice(chosen, self.items, None)

    def _items(self) -> Iterator[Item | BadItem]:
        """The builder's items, and in the place of one whose id was there already what says so."""
        for item in self.builder.items():
            if item.id in self.names and not isinstance(item, BadItem):
                problem = f"two items of {self.builder.name} have the id {item.id!r}; give each of the source its own"
                item = BadItem(item.id, DataError(problem))
            yield item
            self.names.add(item.id)

    def _in_order(self, items: Iterator[Item | BadItem]) -> Generator[_Outcome]:
        """Each item's outcome, in the items' order; others are made while one is waited for."""
        if self.config.workers == 1:
            yield from map(self._make, items)
            return
        pool = ThreadPoolExecutor(self.config.workers, thread_name_prefix="build")
        waiting: deque[Future[_Outcome]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(self._make, item))
                if len(waiting) >= self.config.workers * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            if self.asker is not None and waiting:
                self.asker.stop()
            # What is on its way to a server ends and is kept: it is paid for.
            pool.shutdown(cancel_futures=True)

    def _make(self, item: Item | BadItem) -> _Outcome:
        if isinstance(item, BadItem):
            return _Outcome(item.id, item.id, Made(), item.problem)
        where = self.builder.where(item)
        job = Job(self.builder, item.id, self.build.folder, self.asker, self.known)
        try:
            conversations = list(self.builder.make(item, job))
        except (BudgetError, ConfigError):  # nothing that comes will fare better
            raise
        except MminstructError as error:
            return _Outcome(item.id, where, Made(files=job.files), error, job.call_ids)
        named = {key for one in conversations if one.provenance is not None for key in one.provenance.call_ids}
        asked = [key for key in dict.fromkeys(job.call_ids) if key not in named]
        made = Made(conversations, job.dropped, job.files, asked=asked)
        return _Outcome(item.id, where, made, call_ids=job.call_ids)

    def _take(self, outcome: _Outcome) -> None:
        failure = outcome.failure or self._unfit(outcome.made)
        self.items += 1
        if failure is None:
            self.build.ids.update(conversation.id for conversation in outcome.made.conversations)
            self.conversations += len(outcome.made.conversations)
            self.parts.take(outcome.made)
            return
        if self.config.on_error == "raise":
            raise _told(failure, outcome.where or f"item {outcome.item!r}")
        if outcome.where:
            failure = _told(failure, outcome.where)
        self.errors += 1
        if self.errors > self.config.max_errors:
            raise RunError(
                f"more than {self.config.max_errors} items cannot be used, the last one {outcome.item!r}: {failure}; "
                f"mend the source, or raise --max-errors"
            )
        _LOG.warning("left out %s: %s", outcome.item, failure)
        letter = DeadLetter(item=outcome.item, reason=failure.code, problem=str(failure), call_ids=outcome.call_ids)
        self.parts.take(Made(failed=letter, files=outcome.made.files))

    def _unfit(self, made: Made) -> DataError | None:
        """What is wrong with an item's conversations, if anything is."""
        seen: set[str] = set()
        there = set(made.files)
        for conversation in made.conversations:
            if conversation.id in seen or conversation.id in self.build.ids:
                return DataError(f"two conversations have the id {conversation.id!r}; the builder must tell them apart")
            seen.add(conversation.id)
            for media in conversation.media:
                if media.path in there or media.path.startswith("data:") or Path(media.path).is_absolute():
                    continue
                if not (self.build.folder / media.path).is_file():
                    return DataError(
                        f"the builder {self.builder.name} gave {conversation.id!r} with {media.path}, which it did not "
                        f"write; write media with job.save or job.copy"
                    )
                there.add(media.path)
        return None

    def _progress(self) -> Progress:
        usage = Usage() if self.asker is None else self.asker.usage
        return Progress(
            items=self.items,
            conversations=self.conversations,
            failed=self.errors,
            replies=usage.replies,
            tokens=usage.read + usage.written,
            cost=usage.cost,
            requests=0 if self.asker is None else self.asker.budget.requests,
        )
