"""Asks a model every question of a benchmark, each distinct request once, and keeps what it replies.

    items ─ Benchmark.request ─▶ requests ─ distinct, by media ─▶ known replies? ─ no ─▶ Adapter ─▶ one reply per item

Replies are kept as soon as they are known, so a run that is killed and started again asks nothing twice. A few requests
are also answered alone: what differs from the answer in a batch is reported (`batch_flips`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
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
    """

    items: list[Item]
    replies: list[Reply]
    distinct: int
    generated: int
    seconds: float
    blank_images: bool = False
    checked: int = 0
    flips: tuple[str, ...] = ()

    @property
    def texts(self) -> list[str]:
        return [reply.text for reply in self.replies]


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
    identity = adapter.identity
    keys = Keys(identity or {})
    places: dict[str, list[int]] = {}
    requests: dict[str, Request] = {}
    for place, item in enumerate(items):
        request = replace(benchmark.request(item), blank=blank_images)
        key = keys.key(request)
        requests.setdefault(key, request)
        places.setdefault(key, []).append(place)
    alone: dict[str, str] = {}  # key of a request that is checked -> key of the same, answered alone
    for key in sorted(random.Random("alone").sample(sorted(requests), min(check, len(requests)))):
        single = replace(requests[key], alone=True)
        alone[key] = keys.key(single)
        requests[alone[key]] = single
    wanted = [key for group in _by_media(requests, keys) for key in group]
    known = answers.get(wanted) if answers is not None and identity is not None else {}
    asked = [
        key
        for number, group in enumerate(_by_media({key: requests[key] for key in wanted if key not in known}, keys))
        if processes.mine(number)
        for key in group
    ]
    done = sum(len(places.get(key, ())) for key in known)
    fresh: dict[int, Reply] = {}
    order = {key: number for number, key in enumerate(wanted)}
    for batch in adapter.answer([requests[key] for key in asked]):
        if answers is not None and identity is not None:
            answers.put((asked[place], reply) for place, reply in batch)
        for place, reply in batch:
            fresh[order[asked[place]]] = reply
            done += len(places.get(asked[place], ()))
        if progress is not None:
            progress(done, len(items))
    everything = processes.together(fresh)
    replies = known | {wanted[number]: reply for number, reply in everything.items()}
    if progress is not None:
        progress(len(items), len(items))
    by_place = {place: replies[key] for key, found in places.items() for place in found}
    return Predictions(
        items=items,
        replies=[by_place[place] for place in range(len(items))],
        distinct=len(places),
        generated=len(everything),
        seconds=time.perf_counter() - start,
        blank_images=blank_images,
        checked=len(alone),
        flips=tuple(
            items[places[key][0]].id for key, single in alone.items() if replies[key].text != replies[single].text
        ),
    )


def _by_media(requests: Mapping[str, Request], keys: Keys) -> list[Sequence[str]]:
    """The requests' keys, those about the same media together, in the order in which the media first come."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for key, request in requests.items():
        group = (request.alone, *keys.seen(request)) if request.conversation.media else (request.alone, key)
        groups.setdefault(group, []).append(key)
    return list(groups.values())
