"""Checkpoints to resume from, each whole or not there.

stages/1-align/checkpoint-500.tmp/checkpoint-500/   while it is written, by all processes
stages/1-align/checkpoint-500/                      once all of it is on the disk
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from mminstruct.errors import RunError
from mminstruct.files import TEMPORARY


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a stage, oldest first."""
    found = [path for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.suffix != TEMPORARY]
    return sorted(found, key=steps_done)


def steps_done(checkpoint: Path) -> int:
    """After how many steps of its stage it was saved."""
    return int(checkpoint.name.rpartition("-")[2])


def of_step(folder: Path, step: int) -> Path:
    """The checkpoint of a step."""
    return folder / f"{PREFIX_CHECKPOINT_DIR}-{step}"


def staging_folder(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is written before it is whole; inside it has its own name."""
    return folder / f"{PREFIX_CHECKPOINT_DIR}-{step}{TEMPORARY}"


def keep_newest(folder: Path, number: int, also: int | None = None) -> None:
    """Remove all checkpoints but the newest ones and that of step `also`; what is being removed is none any more."""
    for old in checkpoints(folder)[:-number]:
        if steps_done(old) == also:
            continue
        shutil.rmtree(old.replace(old.with_name(old.name + TEMPORARY)))


def remove_unfinished(folder: Path) -> None:
    """Remove what was being written, or being removed, when a run ended."""
    for path in folder.glob(f"*{TEMPORARY}"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextlib.contextmanager
def saving(path: Path) -> Iterator[None]:
    """Raises `RunError` where what the block writes at `path` does not reach the disk."""
    try:
        yield
    # A full disk is an OSError to Python, but an error of their own to safetensors and to torch's writer.
    except (OSError, SafetensorError, RuntimeError) as error:
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunError(
            f"{path} could not be saved ({cause}); make room on the disk, then go on from the last checkpoint with "
            "--resume"
        ) from error
