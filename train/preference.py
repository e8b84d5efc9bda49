"""Runs a preference recipe: `deepspeed train/preference.py RECIPE [key=value ...] [--out DIR] [--resume]`.

As `train/finetune.py`, but it refuses a recipe in which no stage has an objective of preferences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mminstruct.cli.launch import main

if TYPE_CHECKING:
    from mminstruct.training.config import Recipe


def require_preferences(recipe: Recipe) -> None:
    """Raises `ConfigError` where no stage learns from pairs."""
    from mminstruct.errors import ConfigError
    from mminstruct.training.objectives.dpo import DpoConfig

    if not any(isinstance(stage.objective, DpoConfig) for stage in recipe.stages):
        kinds = ", ".join(f"{stage.name}: {stage.objective.kind}" for stage in recipe.stages)
        raise ConfigError(
            f"the recipe {recipe.name!r} learns from no preferences ({kinds}); give a stage objective: dpo, or use "
            "train/finetune.py"
        )


if __name__ == "__main__":
    main(__doc__, require_preferences)
