"""A stage's conversations made ready: sources opened, mixed, reported, and on resume compared with those of the start.

DataConfig ──build, spool──▶ Joined ──token index──▶ ConversationDataset with its Mixture ──▶ a report of shares
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from mminstruct.building.builder import builder_class
from mminstruct.building.engine import run as run_builder
from mminstruct.config import validate
from mminstruct.data.dataset import ConversationDataset
from mminstruct.data.mixture import Member, Mixture
from mminstruct.data.source import Joined, Source, open_source, require_media
from mminstruct.errors import RunError
from mminstruct.files import read_json
from mminstruct.models.base_processor import BaseProcessor
from mminstruct.training.config import Recipe, SourceConfig, StageConfig

log = logging.getLogger(__name__)

SOURCES = "sources.json"


def stage_data(stage: StageConfig, processor: BaseProcessor, recipe: Recipe, out: Path) -> ConversationDataset:
    """What a stage trains on.

    Raises:
        DataError: a data set is empty or broken, or a file of its media is missing.
    """
    data = stage.data or recipe.data
    if stage.chat_template is not None:
        processor = processor.with_template(stage.chat_template)
    cache = recipe.data_cache or out / "cache"
    parts = [_open(source, out, cache) for source in data.sources]
    for part in parts:
        require_media(part)
    joined = Joined(parts)
    dataset = ConversationDataset(joined, joined.media_root, processor, recipe.max_length, cache)
    members = [
        Member(part.name, start + np.arange(len(part)), source.weight, source.cap, source.repeat)
        for source, part, start in zip(data.sources, parts, joined.starts, strict=True)
    ]
    dataset.mixture = Mixture(members, data.balance)
    return dataset


def _open(source: SourceConfig, out: Path, cache: Path) -> Source:
    if source.path is not None:
        return open_source(source.path, cache, source.format, source.options, source.media_root)
    return open_source(_built(source, out), cache, name=source.builder)


def _built(source: SourceConfig, out: Path) -> Path:
    """The folder of a builder's data set below the run's; the same builder and options are built once."""
    found = builder_class(str(source.builder))
    builder = found(validate(found.Options, source.options, where=f"data.options of {found.name}"))
    options = json.dumps(builder.options.model_dump(mode="json"), sort_keys=True)
    digest = hashlib.sha256(f"{builder.name} {builder.version} {options}".encode()).hexdigest()[:8]
    folder = out / "data" / f"{builder.name}-{digest}"
    if not folder.is_dir():
        run_builder(builder, folder)
    return folder


def report(dataset: ConversationDataset, seed: int) -> list[dict[str, Any]]:
    """Of each source: its content, and what the first epoch has of it, as numbers and as shares of the whole epoch."""
    drawn = np.array(dataset.mixture.epoch(seed, 0))
    ends = [*dataset.conversations.starts[1:], len(dataset)]
    rows = []
    for start, end, part in zip(dataset.conversations.starts, ends, dataset.conversations.parts, strict=True):
        own = drawn[(drawn >= start) & (drawn < end)]
        epoch = {"conversations": len(own)}
        whole = {"conversations": len(drawn)}
        for name, values in (("tokens", dataset.index.tokens), ("supervised_tokens", dataset.index.supervised)):
            epoch[name] = int(values[own].sum(dtype=np.int64))
            whole[name] = int(values[drawn].sum(dtype=np.int64))
        shares = {name: round(epoch[name] / max(whole[name], 1), 4) for name in epoch}
        rows.append(
            {"source": part.name, "sha256": part.digest, "conversations": len(part), "epoch": epoch, "shares": shares}
        )
    return rows


def announce_data(stage: str, rows: list[dict[str, Any]]) -> None:
    """Log the report as a table."""
    table = Table("source", "conversations", "in an epoch", "share", "tokens", "share", "supervised", "share")
    for row in rows:
        cells = [(f"{row['epoch'][name]:,}", f"{row['shares'][name]:.2%}") for name in row["epoch"]]
        table.add_row(row["source"], f"{row['conversations']:,}", *(text for pair in cells for text in pair))
    text = io.StringIO()
    Console(file=text, width=120).print(table)
    log.info("stage %s is made of:\n%s", stage, text.getvalue().rstrip())


def require_same_data(path: Path, reports: dict[str, list[dict[str, Any]]]) -> None:
    """Raises `RunError` where the data are not those that the run began with; names the first difference."""
    if not path.is_file():
        raise RunError(f"{path} is missing, so the run's data cannot be compared with today's; start a new run")
    known = read_json(path)
    for stage, rows in reports.items():
        for old, new in zip(known[stage], rows, strict=True):  # the recipe is the same
            for key, words in (("conversations", "conversations"), ("sha256", "as content hash")):
                if old[key] != new[key]:
                    raise RunError(
                        f"the run was started with other data (stage {stage!r}, {new['source']}: {old[key]} {words} "
                        f"then, {new[key]} now); bring them back, or give a new --out folder"
                    )
