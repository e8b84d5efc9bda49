"""Trains several recipes in the same processes, one after the other, as `train/finetune.py` trains one.

    torchrun --nproc_per_node=2 several.py ONE.yaml TWO.yaml [--resume]      # each RECIPE.yaml into the folder RECIPE

Most of what a launched test takes is the start of its processes. Plain DDP comes first: accelerate keeps in mind that
DeepSpeed was asked for.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mminstruct.cli.app import run_command
from mminstruct.cli.train import run_recipe


def main() -> None:
    for name in [Path(argument) for argument in sys.argv[1:] if argument != "--resume"]:
        out, resume = name.with_suffix(""), "--resume" in sys.argv
        run_command(lambda name=name, out=out, resume=resume: run_recipe(str(name), [], out, resume))


if __name__ == "__main__":
    main()
