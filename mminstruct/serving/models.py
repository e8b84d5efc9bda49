"""The models of one process, by name: what a page offers to choose from and what an API answers as."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TypeVar

from mminstruct.errors import ConfigError, did_you_mean
from mminstruct.models import checkpoint
from mminstruct.serving.engine import Engine
from mminstruct.serving.generator import Generator
from mminstruct.serving.settings import Limits

T = TypeVar("T")


class Models(Mapping[str, Engine]):
    """Engines by name, in the order they were given; at least one. Leaving the `with` block closes them."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        if not engines:
            raise ConfigError("no model is given; give the folder of a checkpoint")
        self._engines = dict(engines)

    @classmethod
    def load(cls, folders: Sequence[Path], device: str, limits: Limits | None = None) -> Models:
        """Checkpoints of these folders, each named by the last two parts of its path.

        Raises:
            ConfigError: two folders have one name.
            CheckpointError: a folder is no whole checkpoint.
        """
        names = [name_of(folder) for folder in folders]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"two models are called {twice}; put one of them into a folder of another name")
        engines: dict[str, Engine] = {}
        try:
            for name, folder in zip(names, folders, strict=True):
                loaded = _in_a_passing_thread(partial(checkpoint.load, folder, device=device))
                engines[name] = Generator(*loaded, limits)
        except BaseException:
            for engine in engines.values():
                engine.close()
            raise
        return cls(engines)

    def __getitem__(self, name: str) -> Engine:
        """Raises `ConfigError` for a name that no model has."""
        if name not in self._engines:
            raise ConfigError(f"no model is called {name[:100]!r}.{did_you_mean(name[:100], self._engines)}")
        return self._engines[name]

    def __contains__(self, name: object) -> bool:
        return name in self._engines

    def __iter__(self) -> Iterator[str]:
        return iter(self._engines)

    def __len__(self) -> int:
        return len(self._engines)

    @property
    def first(self) -> str:
        """The name of the model that answers where none was chosen."""
        return next(iter(self._engines))

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()

    def __enter__(self) -> Models:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def name_of(folder: Path) -> str:
    """What a checkpoint is called: the last two parts of its path, `quickstart/model`."""
    return "/".join(folder.resolve().parts[-2:])


def _in_a_passing_thread(work: Callable[[], T]) -> T:
    """What `work` returns.

    OpenMP keeps workers for each thread that has computed something, for as long as that thread lives. Once there are
    more of them than cores they sleep instead of waiting actively, and each step of a small model on a CPU takes a
    fourth longer. So what is computed at the start is computed in a thread that ends.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where it was asked for
            done.set_exception(error)

    threading.Thread(target=run, name="mminstruct-load", daemon=True).start()
    return done.result()
