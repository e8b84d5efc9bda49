"""What the scripts of `train/` share: a recipe under `deepspeed`, `torchrun` or plain Python."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mminstruct.cli.app import run_command
from mminstruct.cli.train import read_recipe, run_recipe

if TYPE_CHECKING:
    from mminstruct.training.config import Recipe


def main(description: str, check: Callable[[Recipe], None] | None = None) -> None:
    """Parse the command line and run the recipe on this process.

    Args:
        check: raises `ConfigError` for a recipe that the script is not for.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # the deepspeed launcher passes it
    arguments = parser.parse_intermixed_args()
    overrides = arguments.overrides
    launched_by_deepspeed = arguments.local_rank is not None and "RANK" in os.environ
    if launched_by_deepspeed and not any(item.startswith("deepspeed=") for item in overrides):
        overrides = [*overrides, "deepspeed=zero2"]

    def run() -> None:
        if check is not None:
            check(read_recipe(arguments.recipe, overrides))
        run_recipe(arguments.recipe, overrides, arguments.out, arguments.resume)

    run_command(run)
