"""What is summed up between two lines of the log, on each process; a checkpoint keeps it, so that a resumed run's next
line is the one that an undisturbed run has."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from mminstruct.files import read_json, write_json

FILE = "log_window.json"


class LogWindow:
    """Sums of single numbers, and two clocks."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.waited = 0.0  # seconds, for data
        self._started: float | None = None
        self._before = 0.0  # seconds of the window that were over before a resumed run

    def begin(self) -> None:
        """Start the clock unless it runs; what comes before a stage's first step is no part of its speed."""
        if self._started is None:
            self._started = time.perf_counter() - self._before

    def add(self, values: dict[str, torch.Tensor]) -> None:
        """Values may be on the CPU or the model's device, and so are their sums: none is moved or read here."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, torch.zeros((), device=value.device)) + value.detach().float()

    @property
    def seconds(self) -> float:
        return 0.0 if self._started is None else time.perf_counter() - self._started

    def leave_out(self, seconds: float) -> None:
        """Time that was spent on something else than training."""
        if self._started is not None:
            self._started += seconds

    def clear(self) -> None:
        """The next line begins."""
        self.sums = {}
        self.waited = 0.0
        self._started = time.perf_counter()

    def save(self, folder: Path, sums: dict[str, float]) -> None:
        """Write into a checkpoint. `sums` are those of all processes together."""
        write_json(folder / FILE, {"sums": sums, "waited": self.waited, "seconds": self.seconds})

    def restore(self, folder: Path, device: torch.device) -> None:
        """Go on where a checkpoint was saved; for one process, since the sums are those of all."""
        kept = read_json(folder / FILE)
        self.sums = {name: torch.tensor(value, device=device) for name, value in kept["sums"].items()}
        self.waited = kept["waited"]
        self._before = kept["seconds"]
