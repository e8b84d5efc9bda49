"""The segments of a packed row: where each begins, how long it is, and which one it continues.

    row [1, L]      | picture, shared by the next two | question, answer | question, answer | another conversation |
    segments [S, 3]   start, length, parent: a segment sees its ancestors whole, and itself up to each token

Segments of one tree stand one behind the other, parents first, so a conversation is a path from a root to a leaf, and
its tokens have the positions that they have alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional


class Segment(NamedTuple):
    """A stretch of the row; `parent` is the number of the segment that it continues, -1 for none."""

    start: int
    length: int
    parent: int


def positions(segments: Sequence[Segment]) -> torch.Tensor:
    """The position of each token `[L]` in its own conversation."""
    begins: list[int] = []
    for segment in segments:
        begins.append(0 if segment.parent < 0 else begins[segment.parent] + segments[segment.parent].length)
    return torch.cat([torch.arange(begin, begin + s.length) for begin, s in zip(begins, segments, strict=True)])


def as_mask(segments: Sequence[Segment]) -> torch.Tensor:
    """`[1, 1, S, 3]`, what a model takes as its attention mask."""
    return torch.tensor(segments, dtype=torch.int32)[None, None]


def trees(segments: Sequence[Segment]) -> list[list[Segment]]:
    """The segments of each tree, with starts and parents counted from the tree's own first."""
    found: list[list[Segment]] = []
    first = begin = 0
    for number, segment in enumerate(segments):
        if segment.parent < 0:
            first, begin = number, segment.start
            found.append([])
        found[-1].append(Segment(segment.start - begin, segment.length, max(segment.parent - first, -1)))
    return found


def visible(tree: Sequence[Segment], length: int, window: int | None = None) -> torch.Tensor:
    """Which tokens of a tree each of them sees, `[length, length]`; tokens behind the tree's end see themselves.

    Args:
        window: how many positions back a token sees at most, itself counted (sliding window attention).
    """
    seen = torch.eye(length, dtype=torch.bool)
    for segment in tree:
        rows = slice(segment.start, segment.start + segment.length)
        seen[rows, rows] = torch.ones(segment.length, segment.length, dtype=torch.bool).tril()
        if segment.parent >= 0:
            parent = tree[segment.parent]
            # The parent's last token sees all of the parent's ancestors and all of the parent.
            seen[rows, : segment.start] = seen[parent.start + parent.length - 1, : segment.start]
    if window is not None:
        place = functional.pad(positions(tree), (0, length - tree[-1].start - tree[-1].length))
        seen &= place[:, None] - place[None, :] < window
    return seen
