"""Objectives by name."""

from __future__ import annotations

from mminstruct.errors import ConfigError, did_you_mean
from mminstruct.training.objectives.base import Objective, ObjectiveOutput
from mminstruct.training.objectives.sft import SupervisedFineTuning

OBJECTIVES: dict[str, type[Objective]] = {"sft": SupervisedFineTuning}


def get(name: str) -> Objective:
    """The objective of a name. Raises `ConfigError` for an unknown one."""
    if name not in OBJECTIVES:
        raise ConfigError(f"no objective is called {name!r}.{did_you_mean(name, OBJECTIVES)}")
    return OBJECTIVES[name]()


__all__ = ["OBJECTIVES", "Objective", "ObjectiveOutput", "get"]
