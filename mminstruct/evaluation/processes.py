"""Several processes that answer one benchmark together (`torchrun`): each its share, the first one all of it.

Shares are whole groups of requests about the same media, in turn, so no picture is encoded twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from mminstruct.evaluation.requests import Reply


@dataclass(frozen=True)
class Processes:
    """This process's place (`rank`) among `count`."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def mine(self, number: int) -> bool:
        """Whether group `number` is this process's."""
        return number % self.count == self.rank

    def as_first(self, replies: dict[str, Reply]) -> dict[str, Reply]:
        """What the first process gives: all must agree on what is known before they share out the rest."""
        if self.count == 1:
            return replies
        import torch.distributed

        given = [replies]
        torch.distributed.broadcast_object_list(given, src=0)
        return given[0]

    def together(self, replies: Mapping[str, Reply]) -> dict[str, Reply]:
        """The replies of all processes."""
        if self.count == 1:
            return dict(replies)
        import torch.distributed

        shares: list[dict[str, Reply] | None] = [None] * self.count
        torch.distributed.all_gather_object(shares, dict(replies))
        return {key: reply for share in shares for key, reply in (share or {}).items()}


@contextmanager
def joined() -> Iterator[Processes]:
    """The processes that a launcher has started with this one; alone where none has."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    import torch.distributed

    # Replies are small Python objects: gloo carries them whatever the models run on.
    torch.distributed.init_process_group("gloo")
    try:
        yield Processes(torch.distributed.get_rank(), count)
    finally:
        torch.distributed.destroy_process_group()
