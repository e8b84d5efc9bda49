"""Launched processes: the scripts of `train/`, and several recipes in one pair of processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mminstruct.config import dump_yaml
from mminstruct.training.config import Recipe

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
FINETUNE = REPOSITORY / "train/finetune.py"
SEVERAL = Path(__file__).parent / "several.py"


def launch(arguments: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder; its whole output is the message where it fails."""
    result = subprocess.run(
        arguments, cwd=folder, capture_output=True, text=True, timeout=900, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), **environment},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result


def torchrun(processes: int, folder: Path, script: Path, *arguments: str) -> None:
    """On so many gloo processes, at a port that is free."""
    launch(
        [str(BIN / "torchrun"), "--standalone", f"--nproc_per_node={processes}", str(script), *arguments], folder
    )  # fmt: skip


def require_compiler() -> None:
    if shutil.which("g++") is None and not os.environ.get("CI"):
        pytest.skip("DeepSpeed builds its CPU communication with g++, which is missing; run: apt-get install g++")


def write(recipe: Recipe, path: Path) -> str:
    path.write_text(dump_yaml(recipe))
    return path.name


def train_on_two(recipe: Recipe, folder: Path) -> None:
    """A recipe on two gloo processes into `folder/two`, by DDP."""
    torchrun(2, folder, FINETUNE, write(recipe, folder / "two.yaml"), "--out", "two")
