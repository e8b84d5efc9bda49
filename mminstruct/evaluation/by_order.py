"""Pairing for data sets whose questions have no ids: answers are joined by a key where they have one, else by order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mminstruct.errors import DataError
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.scorers.metric import all_predicted

BY_ORDER = "\n"  # begins the name of an answer that has no id, before its number


def pairing(items: Sequence[Item], found: Mapping[str, str], path: Path) -> tuple[list[Item], list[str | None]]:
    """As `all_predicted`; answers that are named by their place go with the items in their order.

    Raises:
        DataError: there are not as many answers as questions, or an id is missing or unknown.
    """
    if not all(name.startswith(BY_ORDER) for name in found):
        return all_predicted(items, found, path)
    if len(found) != len(items):
        raise DataError(f"{path} has {len(found)} answers without ids for {len(items)} questions; give one for each")
    return list(items), list(found.values())
