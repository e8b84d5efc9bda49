"""Runs a recipe under a launcher: `deepspeed train/finetune.py RECIPE [key=value ...] [--out DIR] [--resume]`.

The same recipe runs with `mminstruct train`, `torchrun` and plain Python. Under the `deepspeed` launcher ZeRO-2
(`train/deepspeed/zero2.json`) is the default; `deepspeed=NAME` takes another config.
"""

from __future__ import annotations

from mminstruct.cli.launch import main

if __name__ == "__main__":
    main(__doc__)
