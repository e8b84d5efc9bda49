"""Objectives by name or config. One file each; a new one adds its config to `ObjectiveOptions`."""

from __future__ import annotations

from typing import Any, get_args

from mminstruct.config import validate
from mminstruct.errors import ConfigError, did_you_mean
from mminstruct.training.objectives.base import Objective, ObjectiveConfig, ObjectiveOutput
from mminstruct.training.objectives.contrastive import ContrastiveConfig
from mminstruct.training.objectives.distill import DistillConfig
from mminstruct.training.objectives.dpo import DpoConfig
from mminstruct.training.objectives.sft import SftConfig

ObjectiveOptions = SftConfig | DpoConfig | DistillConfig | ContrastiveConfig

OBJECTIVES: dict[str, type[ObjectiveConfig]] = {
    found.model_fields["kind"].default: found for found in get_args(ObjectiveOptions)
}


def get(name: str, **options: Any) -> Objective:
    """The objective of a name. Raises `ConfigError` for an unknown one, or options that it does not have."""
    if name not in OBJECTIVES:
        raise ConfigError(f"no objective is called {name!r}.{did_you_mean(name, OBJECTIVES)}")
    return validate(OBJECTIVES[name], options, where=f"objective {name!r}").build()


__all__ = ["OBJECTIVES", "Objective", "ObjectiveConfig", "ObjectiveOptions", "ObjectiveOutput", "SftConfig", "get"]
