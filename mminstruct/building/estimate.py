"""What a build will ask and cost, before anything is spent: its first items are built by templates and counted.

Tokens are guessed at four characters each, as English has it; pictures are not counted, since each model counts them in
its own way; replies are as long as the templates', and none is asked for twice. So this says whether a build costs ten
dollars or a thousand, not whether it costs ten or twelve; `--max-cost` is what holds.
"""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mminstruct.building.asking import Asker, AskingConfig
from mminstruct.building.builder import BadItem, Builder
from mminstruct.building.call_log import CallLog
from mminstruct.building.clients import TemplateClient
from mminstruct.building.job import Job
from mminstruct.building.limits import Budget, BudgetConfig, Price, Rate, RateConfig
from mminstruct.building.request import Completion
from mminstruct.building.sending import CHARACTERS_A_TOKEN
from mminstruct.errors import ConfigError, DataError


@dataclass(frozen=True)
class Estimate:
    """
    Attributes:
        items: that are built.
        sample: the first so many of them were counted.
        requests, read, written: questions, and tokens of them and of the replies.
        pictures: sent with the questions.
        cost: in dollars, None without prices; `priced` says which.
        minutes: at least, by the server's rate; None without one.
    """

    items: int
    sample: int
    requests: int
    read: int
    written: int
    pictures: int
    cost: float | None
    priced: str | None
    minutes: float | None


def estimate(
    builder: Builder,
    price: Price | None = None,
    rate: RateConfig | None = None,
    sample: int = 50,
    batch: bool = False,
) -> Estimate:
    """
    Args:
        batch: whether the questions are asked in batches, which have other prices.

    Raises:
        ConfigError: the builder asks no model.
        DataError: it has no items.
    """
    if not builder.asks:
        raise ConfigError(f"{builder.name} asks no model, so it costs nothing")
    rate = rate or RateConfig()
    with tempfile.TemporaryDirectory() as name, CallLog(Path(name) / "calls.sqlite") as log:
        folder = Path(name)
        asker = Asker(TemplateClient(), log, folder, AskingConfig(), Budget(BudgetConfig()), Rate(RateConfig()))
        counted = 0
        good = (item for item in builder.items() if not isinstance(item, BadItem))
        for item in itertools.islice(good, sample):
            counted += 1
            list(builder.make(item, Job(builder, item.id, folder, asker)))
        log.flush()
        calls = list(log.calls())
    if not counted:
        raise DataError(f"{builder.name} has no items; check the source and its options")
    items = builder.count()
    if items is None:
        items = sum(1 for _ in builder.items())
    read = sum(len(message.text) for _, request, _ in calls for message in request.messages) / CHARACTERS_A_TOKEN
    written = sum(len(reply.text) for _, _, reply in calls) / CHARACTERS_A_TOKEN
    share = items / counted
    requests, read, written = (round(number * share) for number in (len(calls), read, written))
    usage = {"prompt_tokens": read, "completion_tokens": written}
    waits = [requests / rate.requests] if rate.requests else []
    waits += [(read + written) / rate.tokens] if rate.tokens else []
    return Estimate(
        items=items,
        sample=counted,
        requests=requests,
        read=int(read),
        written=int(written),
        pictures=round(sum(len(request.media) for _, request, _ in calls) * share),
        cost=None if price is None else price.of(Completion(text="", usage=usage, batch=batch)),
        priced=None if price is None else price.said + (", in batches" if batch else ""),
        minutes=max(waits, default=None),
    )
