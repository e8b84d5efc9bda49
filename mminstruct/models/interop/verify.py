"""Whether a checkpoint of this project is whole: every tensor there, of the right shape, every number finite."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from mminstruct.models.interop.parts import empty_model, open_own, stored_shapes


@dataclass
class Report:
    """What was found; `problems` is empty for a whole checkpoint."""

    tensors: int
    parameters: int
    dtypes: list[str]
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {"ok": not self.problems, **asdict(self)}


def verify(folder: str | Path) -> Report:
    """Read every tensor of a checkpoint once, one at a time.

    Raises:
        CheckpointError: the folder is no checkpoint of this project, or one of its files cannot be read.
    """
    opened = open_own(Path(folder))
    found, wanted = opened.source.tensors, stored_shapes(empty_model(opened.config))
    problems = [f"the tensor {name!r} is missing" for name in wanted if name not in found]
    for name, stored in found.items():
        if name not in wanted:
            problems.append(f"the tensor {name!r} is none of the model's")
        elif stored.shape != wanted[name]:
            problems.append(f"the tensor {name!r} has shape {list(stored.shape)}, wanted {list(wanted[name])}")
        elif not bool(torch.isfinite(opened.source.read(name)).all()):
            problems.append(f"the tensor {name!r} holds numbers that are not finite")
    return Report(
        tensors=len(found),
        parameters=sum(torch.Size(stored.shape).numel() for stored in found.values()),
        dtypes=sorted({str(stored.dtype).removeprefix("torch.") for stored in found.values()}),
        problems=problems,
    )
