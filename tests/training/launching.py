"""Processes beside the test's own: the scripts of `train/` as they are launched, and forked pairs.

A new process imports for ten seconds and more before it trains. A forked one comes from a server that has everything
imported, and is told by its environment what `torchrun` would tell it. What a launcher starts is a stand-in, which
imports nothing, says what it was told, and ends as a forked process does that runs the script with just that:

    launcher ─▶ stand-in ─ arguments, environment ─▶ forked process: train/finetune.py ─ exit code ─▶ stand-in
"""

from __future__ import annotations

import gc
import json
import multiprocessing.connection
import os
import runpy
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from mminstruct.config import dump_yaml
from mminstruct.training.config import Recipe
from tests.command import call
from tests.forking import FORKED

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
FINETUNE = REPOSITORY / "train/finetune.py"
STAND_IN = Path(__file__).with_name("stand_in.py")


def launch(arguments: list[str], folder: Path, processes: int, **environment: str) -> None:
    """Run a launcher's command in a new folder: for the `STAND_IN` in it, `train/finetune.py` in forked processes."""
    folder.mkdir()
    launcher = subprocess.Popen(
        arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip
    # What launchers write between the lines of their children is little, so nobody need read it before the end.
    told = [folder / f"told{rank}.json" for rank in range(processes)]
    while launcher.poll() is None and not all(path.exists() for path in told):
        time.sleep(0.01)
    started = [fork(_script, *json.loads(path.read_text())) for path in told if path.exists()]
    for rank, process in enumerate(started):
        process.join(300)
        process.kill()
        (folder / f"ended{rank}").write_text(str(process.exitcode))
    output, _ = launcher.communicate(timeout=60)
    assert (launcher.returncode, len(started)) == (0, processes), output[-3000:]


def _script(folder: str, arguments: list[str], environment: dict[str, str]) -> None:
    """`train/finetune.py` where, with what, and as whom the launcher started its stand-in."""
    os.chdir(folder)
    os.environ |= environment
    sys.argv = [str(FINETUNE), *arguments]
    log = os.open(f"rank{environment['RANK']}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    runpy.run_path(str(FINETUNE), run_name="__main__")


def write(recipe: Recipe, path: Path) -> str:
    path.write_text(dump_yaml(recipe))
    return path.name


def fork(target: Callable[..., None], *arguments: object, **environment: object) -> BaseProcess:
    """Start a function of a module in a process of its own."""
    process = FORKED.Process(target=_forked, args=(target, arguments, environment))
    process.start()
    return process


def fork_ranks(processes: int, target: Callable[..., None], *arguments: object) -> list[BaseProcess]:
    """Start a function, its own rank its first argument, in so many processes that `torch.distributed` joins."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    # LOCAL_SIZE: else DeepSpeed looks for `numactl`, in a process of its own, whenever it reduces.
    together = {"WORLD_SIZE": processes, "LOCAL_SIZE": processes, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    return [fork(target, rank, *arguments, RANK=rank, LOCAL_RANK=rank, **together) for rank in range(processes)]


def _forked(target: Callable[..., None], arguments: tuple[object, ...], environment: dict[str, object]) -> None:
    os.environ |= {name: str(value) for name, value in environment.items()}
    torch.set_num_threads(1)
    gc.freeze()  # no garbage collection walks, and so copies, what the server has imported
    target(*arguments)


def train_on(processes: int, folder: Path, *names: str, resume: bool = False) -> None:
    """The recipes `NAME.yaml` of a folder, one behind the other into `NAME`, on so many forked gloo processes.

    Plain DDP comes first: accelerate keeps in mind that DeepSpeed was asked for.
    """
    started = fork_ranks(processes, _train, folder, names, resume)
    while any(process.is_alive() for process in started):
        multiprocessing.connection.wait([process.sentinel for process in started if process.is_alive()])
        if any(process.exitcode for process in started):  # the others would wait for it
            for process in started:
                process.kill()
    logs = [(folder / f"rank{rank}.log").read_text() for rank in range(processes)]
    assert [process.exitcode for process in started] == [0] * processes, "\n".join(logs)


def _train(rank: int, folder: Path, names: tuple[str, ...], resume: bool) -> None:
    os.chdir(folder)
    with (folder / f"rank{rank}.log").open("w") as log:
        for name in names:
            code, _, error = call("train", f"{name}.yaml", "--out", name, *["--resume"] * resume)
            log.write(error)
            if code:
                sys.exit(code)


def train_on_two(recipe: Recipe, folder: Path) -> None:
    """A recipe on two forked gloo processes into `folder/two`, by DDP."""
    write(recipe, folder / "two.yaml")
    train_on(2, folder, "two")
