"""Asks a model every question of a benchmark, each distinct request once, and keeps what it replies.

    items ─ Benchmark.request ─▶ requests ─ distinct, by media ─▶ known replies? ─ no ─▶ Adapter ─▶ one reply per item
      ▲──────────────────── the next turns of conversations ─────────────────────────────────────────────┘

Replies are kept as soon as they are known, so a run that is killed and started again asks nothing twice. A few requests
are also answered alone: what differs from the answer in a batch is reported (`batch_flips`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mminstruct.evaluation.adapters import Adapter
from mminstruct.evaluation.answer_cache import AnswerCache
from mminstruct.evaluation.benchmark import Benchmark
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.processes import Processes
from mminstruct.evaluation.requests import Keys, Reply, Request

Progress = Callable[[int, int], None]
"""Called as progress(items done, items in all)."""
ALONE = Processes()
ELIDED = "..."
"""For a model's reply to an earlier turn, where only what is asked counts."""


@dataclass(frozen=True)
class Predictions:
    """What a model answered.

    Attributes:
        items: the questions, in the benchmark's order.
        replies: the model's answer to each.
        distinct: how many different requests the questions make.
        generated: how many of these the model was asked now, the others being known; by all processes together.
        seconds: how long it took, pictures and prompts included, the loading of the model not.
        blank_images: whether the model was shown grey pictures instead of the real ones.
        checked: how many requests were also answered alone.
        flips: ids of items whose answer alone differs from that in a batch.
        asked: for each item a hash of its prompt and of its media's bytes, the same whoever answers.
        batches: (seconds, requests) of what the model answered at once, by this process, in the order of time.
    """

    items: list[Item]
    replies: list[Reply]
    distinct: int
    generated: int
    seconds: float
    blank_images: bool = False
    checked: int = 0
    flips: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    batches: tuple[tuple[float, int], ...] = ()

    @property
    def texts(self) -> list[str]:
        return [reply.text for reply in self.replies]

    @property
    def scored(self) -> list[str | None]:
        """What scorers are given: the texts, None for a reply that is missing."""
        return [None if reply.finish == "missing" else reply.text for reply in self.replies]


def evaluate(
    adapter: Adapter,
    benchmark: Benchmark,
    *,
    limit: int | None = None,
    blank_images: bool = False,
    answers: AnswerCache | None = None,
    check: int = 0,
    progress: Progress | None = None,
    processes: Processes = ALONE,
) -> Predictions:
    """The model's answer to each question of a benchmark.

    Args:
        limit: ask the first `limit` questions only.
        blank_images: show mid-grey pictures of the same sizes instead; what is still right was not seen but guessed.
        answers: where replies are looked up and kept, if the adapter can say what they depend on.
        check: of so many requests the answer alone is compared with that in a batch.
        progress: called after each batch of this process.
        processes: who else answers; each gets all replies in the end.

    Raises:
        DataError: the benchmark's data is missing or broken.
        MediaError: an image cannot be read.
    """
    start = time.perf_counter()
    items = benchmark.questions(limit)
    asking = _Asking(adapter, answers, processes, progress, len(items))
    replies: dict[str, Reply] = {}
    flips: list[str] = []
    distinct = checked = 0
    waiting = items
    while waiting:
        ready = [item for item in waiting if all(earlier in replies for earlier in item.after)]
        requests = {
            item.id: replace(
                benchmark.request(item, [replies[earlier].text for earlier in item.after]), blank=blank_images
            )
            for item in ready
        }
        found = asking.ask(requests, check if not replies else 0)
        replies |= found.replies
        distinct, checked, flips = distinct + found.distinct, checked + found.checked, flips + found.flips
        waiting = [item for item in waiting if item.id not in replies]
    seconds = time.perf_counter() - start
    return Predictions(
        items=items,
        replies=[replies[item.id] for item in items],
        distinct=distinct,
        generated=asking.generated,
        seconds=seconds,
        blank_images=blank_images,
        checked=checked,
        flips=tuple(flips),
        asked=tuple(asking.question(first_asked(benchmark, item, blank_images)) for item in items),
        batches=tuple(asking.batches),
    )


def first_asked(benchmark: Benchmark, item: Item, blank_images: bool = False) -> Request:
    """An item's request; for what the model replied to earlier turns, which differs by model, `ELIDED` stands in."""
    return replace(benchmark.request(item, [ELIDED] * len(item.after)), blank=blank_images)


@dataclass
class _Round:
    """What came of some requests: the reply of each by its id, and of how many different ones; see `Predictions`."""

    replies: dict[str, Reply]
    distinct: int
    checked: int
    flips: list[str]


class _Asking:
    """Asks the model for what nobody knows, a round of requests at a time."""

    def __init__(
        self,
        adapter: Adapter,
        answers: AnswerCache | None,
        processes: Processes,
        progress: Progress | None,
        total: int,
    ) -> None:
        self._adapter = adapter
        self._keys = Keys(adapter.identity or {})
        self._answers = answers if adapter.identity is not None else None
        self._processes = processes
        self._progress = progress
        self._total = total
        self._done = 0
        self.generated = 0
        self.batches: list[tuple[float, int]] = []

    def question(self, request: Request) -> str:
        """As `Keys.question`."""
        return self._keys.question(request)

    def ask(self, by_id: Mapping[str, Request], check: int) -> _Round:
        """The reply to each request, by its id; of `check` of them the answer alone is compared as well."""
        ids: dict[str, list[str]] = {}
        requests: dict[str, Request] = {}
        for name, request in by_id.items():
            key = self._keys.key(request)
            requests.setdefault(key, request)
            ids.setdefault(key, []).append(name)
        alone: dict[str, str] = {}  # key of a request that is checked -> key of the same, answered alone
        for key in sorted(random.Random("alone").sample(sorted(requests), min(check, len(requests)))):
            single = replace(requests[key], alone=True)
            alone[key] = self._keys.key(single)
            requests[alone[key]] = single
        replies = self._known_or_asked(requests, ids)
        flips = [ids[key][0] for key, single in alone.items() if replies[key].text != replies[single].text]
        found = {name: replies[key] for key, names in ids.items() for name in names}
        return _Round(found, len(ids), len(alone), flips)

    def _known_or_asked(self, requests: Mapping[str, Request], ids: Mapping[str, Sequence[str]]) -> dict[str, Reply]:
        """key -> reply of all requests, of which this process asks its share."""
        known = self._processes.as_first({} if self._answers is None else self._answers.get(list(requests)))
        unknown = _by_media({key: request for key, request in requests.items() if key not in known}, self._keys)
        mine = [key for number, group in enumerate(unknown) if self._processes.mine(number) for key in group]
        self._count(known, ids)
        fresh: dict[str, Reply] = {}
        before = time.perf_counter()
        for batch in self._adapter.answer([requests[key] for key in mine]):
            replies = {mine[place]: reply for place, reply in batch}
            if self._answers is not None:
                self._answers.put([(key, reply) for key, reply in replies.items() if reply.finish != "missing"])
            fresh |= replies
            self._count(replies, ids)
            now = time.perf_counter()
            self.batches.append((now - before, len(batch)))
            before = now
        everything = self._processes.together(fresh)
        self._count(everything.keys() - fresh.keys(), ids)
        self.generated += len(everything)
        return known | everything

    def _count(self, keys: Iterable[str], ids: Mapping[str, Sequence[str]]) -> None:
        self._done += sum(len(ids.get(key, ())) for key in keys)
        if self._progress is not None:
            self._progress(self._done, self._total)


def _by_media(requests: Mapping[str, Request], keys: Keys) -> list[Sequence[str]]:
    """The requests' keys, those about the same media together, in the order in which the media first come."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for key, request in requests.items():
        group = (request.alone, *keys.seen(request)) if request.conversation.media else (request.alone, key)
        groups.setdefault(group, []).append(key)
    return list(groups.values())
