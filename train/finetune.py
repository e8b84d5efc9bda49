"""Runs a recipe under a launcher: `deepspeed train/finetune.py RECIPE [key=value ...] [--out DIR] [--resume]`.

The same recipe runs with `mminstruct train`, `torchrun` and plain Python. Under the `deepspeed` launcher ZeRO-2
(`train/deepspeed/zero2.json`) is the default; `deepspeed=NAME` takes another config.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from mminstruct.cli.app import run_command
from mminstruct.cli.train import run_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
    run_command(lambda: run_recipe(arguments.recipe, overrides, arguments.out, arguments.resume))


if __name__ == "__main__":
    sys.exit(main())
