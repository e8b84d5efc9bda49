"""The table of what trains in a stage: how many parameters of each part, in which way, on which modules."""

from __future__ import annotations

import io
import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel

from mminstruct.files import read_json, write_json
from mminstruct.models.adapters import Adapter, LoraConfig
from mminstruct.models.parts import parts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """One part.

    Attributes:
        kind: `whole`, `lora`, `dora`, `mask` or `frozen`; with ` on 4 bits` where the base is quantised.
        total: the part's own parameters, without what an adapter adds.
        share: `trainable / total`.
        modules: what carries an adapter, numbers in names replaced by `*` -> how many there are.
    """

    part: str
    kind: str
    trainable: int
    total: int
    share: float
    modules: dict[str, int]


def trainable_table(model: PreTrainedModel, totals: dict[str, int], adapters: Sequence[Adapter]) -> list[Row]:
    """A row for each part; `totals` are the parameter counts from before the adapters were attached."""
    by_part = {adapter.config.part: adapter for adapter in adapters}
    rows = []
    for part, members in parts(model).items():
        trainable = sum(p.numel() for p in members.parameters() if p.requires_grad)
        adapter = by_part.get(part)
        kind = _kind(adapter) if adapter else "whole" if trainable else "frozen"
        names = adapter.names if adapter else []
        modules = dict(Counter(re.sub(r"\b\d+\b", "*", name) for name in names))
        rows.append(Row(part, kind, trainable, totals[part], round(trainable / totals[part], 6), modules))
    return rows


def _kind(adapter: Adapter) -> str:
    if not isinstance(adapter.config, LoraConfig):
        return adapter.config.kind
    kind = "dora" if adapter.config.dora else "lora"
    return kind if adapter.config.bits is None else f"{kind} on {adapter.config.bits} bits"


def record(path: Path, stage: str, rows: Sequence[Row]) -> None:
    """Write the stage's rows into `trainable.json`, beside those of earlier stages."""
    known = read_json(path) if path.exists() else {}
    write_json(path, known | {stage: [asdict(row) for row in rows]})


def announce(stage: str, rows: Sequence[Row]) -> None:
    """Log the table."""
    table = Table("part", "kind", "trainable", "of", "share", "modules with an adapter")
    for row in rows:
        modules = "\n".join(f"{count} x {name}" for name, count in row.modules.items())
        table.add_row(row.part, row.kind, f"{row.trainable:,}", f"{row.total:,}", f"{row.share:.2%}", modules)
    text = io.StringIO()
    Console(file=text, width=120).print(table)
    log.info("stage %s trains:\n%s", stage, text.getvalue().rstrip())
