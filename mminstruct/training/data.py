"""A stage's conversations made ready: sources opened, mixed, reported, and on resume compared with those of the start.

DataConfig ──build, spool──▶ Joined ──token index──▶ ConversationDataset with its Mixture ──▶ a report of shares
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from accelerate.utils import gather_object
from rich.console import Console
from rich.table import Table

from mminstruct.building.builder import builder_class
from mminstruct.building.engine import run as run_builder
from mminstruct.config import validate
from mminstruct.data.dataset import ConversationDataset
from mminstruct.data.mixture import Member, Mixture
from mminstruct.data.rules import Cause, Skipped, first_error, too_long, unusable
from mminstruct.data.source import Joined, Source, open_source
from mminstruct.errors import ConfigError, DataError, RunError
from mminstruct.files import read_json, write_text
from mminstruct.models.base_processor import BaseProcessor
from mminstruct.training.config import Recipe, SourceConfig, StageConfig

log = logging.getLogger(__name__)

SOURCES = "sources.json"
SKIPPED = "skipped.jsonl"

# What has to be the same on resume, and how a difference is worded.
_COMPARED = {
    "conversations": "conversations",
    "sha256": "as content hash",
    "skipped": "skipped",
    "truncated": "truncated",
    "tokens": "as hash of the token counts",
}


@dataclass(frozen=True)
class StageData:
    """What a stage trains on, the conversations that it is made of, and which of them it leaves out."""

    dataset: ConversationDataset
    sources: Joined
    skipped: list[Skipped]


def stage_data(stage: StageConfig, processor: BaseProcessor, recipe: Recipe, out: Path) -> StageData:
    """What a stage trains on; which conversations are left out is decided here, before the first step.

    Raises:
        DataError: a data set is empty or broken, a file of its media is missing, or a conversation is too long.
    """
    data = stage.data or recipe.data
    if stage.chat_template is not None:
        processor = processor.with_template(stage.chat_template)
    cache = recipe.data_cache or out / "cache"
    limit, setting = recipe.max_length, "max_length"
    if stage.pack_tokens is not None and stage.pack_tokens < limit:
        limit, setting = stage.pack_tokens, "pack_tokens"
    joined = Joined([_open(source, out, cache) for source in data.sources])
    broken = unusable(joined, headers=data.on_error == "skip", cache=cache)
    if broken and data.on_error == "raise":
        raise first_error(broken)
    cut_to = limit if data.too_long == "truncate" else None
    make = stage.objective.dataset
    if cut_to is not None and not make.cuts:
        raise ConfigError(
            f"stage {stage.name!r} learns from pairs, which are never cut; set data.too_long to skip or error"
        )
    dataset = make(joined, joined.media_root, processor, recipe.max_length, cache, cut_to, stage.loss)
    for sample, why in dataset.index.problems.items():
        broken.setdefault(sample // make.branches, Skipped(sample // make.branches, "template", why))
    if broken and data.on_error == "raise":
        raise first_error(broken)
    if len(broken) > data.max_errors:
        raise DataError(
            f"{len(broken)} of {len(joined)} conversations cannot be used, more than max_errors {data.max_errors} "
            f"allows; the first: {first_error(broken)}"
        )
    skipped = broken | too_long(dataset, limit, setting, data.too_long, known=broken)
    left = np.setdiff1d(np.arange(len(joined)), list(skipped))
    ends = [*joined.starts[1:], len(joined)]
    dataset.mixture = Mixture(
        [
            Member(part.name, left[(left >= start) & (left < end)], source.weight, source.cap, source.repeat)
            for source, part, start, end in zip(data.sources, joined.parts, joined.starts, ends, strict=True)
        ],
        data.balance,
    )
    return StageData(dataset, joined, [skipped[index] for index in sorted(skipped)])


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
        run_builder(builder, folder, resume=True)  # a run that was killed may have begun it
    return folder


def report(data: StageData, seed: int) -> list[dict[str, Any]]:
    """Of each source: its content, what is left out of it, and what the first epoch has of it, as numbers and as shares
    of the whole epoch."""
    dataset = data.dataset
    index = dataset.index
    drawn = np.array(dataset.mixture.epoch(seed, 0))
    ends = [*data.sources.starts[1:], len(data.sources)]
    rows = []
    for start, end, part in zip(data.sources.starts, ends, data.sources.parts, strict=True):
        own = drawn[(drawn >= start) & (drawn < end)]
        epoch, whole = {"conversations": len(own)}, {"conversations": len(drawn)}
        for name, values in (("tokens", index.tokens), ("supervised_tokens", index.supervised)):
            epoch[name] = int(values[dataset.members(own)].sum(dtype=np.int64))
            whole[name] = int(values[dataset.members(drawn)].sum(dtype=np.int64))
        samples = slice(start * dataset.branches, end * dataset.branches)
        causes = Counter(one.cause for one in data.skipped if start <= one.index < end)
        rows.append(
            {
                "source": part.name,
                "sha256": part.digest,
                "conversations": len(part),
                "skipped": {cause: causes[cause] for cause in get_args(Cause)},
                "truncated": int((index.turns[samples] > 0).sum()),
                "tokens": hashlib.sha256(index.tokens[samples].tobytes()).hexdigest(),
                "epoch": epoch,
                "shares": {name: round(epoch[name] / max(whole[name], 1), 4) for name in epoch},
            }
        )
    return rows


def write_skipped(path: Path, stage: str, data: StageData) -> None:
    """Add a line for each conversation that a stage leaves out to a file of JSON lines; none: no file."""
    if data.skipped:
        known = path.read_text(encoding="utf-8") if path.exists() else ""
        lines = []
        for one in data.skipped:
            part = data.sources.part(one.index)
            name = data.sources[one.index].id
            row = {"stage": stage, "source": part.name, "id": name, "cause": one.cause, "why": one.why}
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
        write_text(path, known + "".join(lines))


def announce_data(stage: str, rows: list[dict[str, Any]]) -> None:
    """Log the report as a table."""
    table = Table(
        "source", "conversations", "skipped", "cut", "in an epoch", "share", "tokens", "share", "supervised", "share"
    )
    for row in rows:
        cells = [(f"{row['epoch'][name]:,}", f"{row['shares'][name]:.2%}") for name in row["epoch"]]
        own = [f"{row['conversations']:,}", f"{sum(row['skipped'].values()):,}", f"{row['truncated']:,}"]
        table.add_row(row["source"], *own, *(text for pair in cells for text in pair))
    text = io.StringIO()
    Console(file=text, width=120).print(table)
    log.info("stage %s is made of:\n%s", stage, text.getvalue().rstrip())


def require_equal_data(reports: dict[str, list[dict[str, Any]]]) -> None:
    """Raises `RunError` where processes do not see the same data; each would go by another plan."""
    found = gather_object([json.dumps(reports, sort_keys=True)])
    for process, other in enumerate(found):
        if other != found[0]:
            raise RunError(
                f"process {process} does not see the data that process 0 sees; give all machines the same files, "
                "and look for media that only some of them can read"
            )


def require_same_data(path: Path, reports: dict[str, list[dict[str, Any]]]) -> None:
    """Raises `RunError` where the data are not those that the run began with; names the first difference."""
    if not path.is_file():
        raise RunError(f"{path} is missing, so the run's data cannot be compared with today's; start a new run")
    known = read_json(path)
    for stage, rows in reports.items():
        if stage not in known:
            raise RunError(
                f"{path} does not say what stage {stage!r} was made of, and it cannot be compared with today's; "
                "start a new run"
            )
        for old, new in zip(known[stage], rows, strict=True):  # the recipe is the same
            for key, words in _COMPARED.items():
                if old[key] != new[key]:
                    raise RunError(
                        f"the run was started with other data (stage {stage!r}, {new['source']}: {old[key]} {words} "
                        f"then, {new[key]} now); bring them back, or give a new --out folder"
                    )
