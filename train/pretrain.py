"""Runs a recipe that aligns a connector: `deepspeed train/pretrain.py RECIPE [key=value ...] [--out DIR] [--resume]`.

The same as `train/finetune.py`, under the name that scripts for two runs expect: the recipe says which parts train, and
nothing about a recipe tells pretraining from fine-tuning.
"""

from __future__ import annotations

from mminstruct.cli.launch import main

if __name__ == "__main__":
    main(__doc__)
