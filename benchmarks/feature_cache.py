"""Seconds of an epoch with and without a feature cache, in one run, alternating.

    python benchmarks/feature_cache.py --rounds 5

An align stage as LLaVA does it: the connector trains, encoder and language model are frozen, pictures have captions.
The encoder (ViT-B, or ViT-S with `--tower small`; 64 patches of a 128 px picture, JPEGs of 512 px) is larger than the
language model (a Llama of four layers, 256 wide), both random. Without a cache prepared pictures stay in memory, so
later epochs decode nothing. In each round both run once, in random order, the cache in a new folder; a ratio is of one
round. The time of filling the cache, which is before the first epoch, stands by itself.
"""

from __future__ import annotations

import itertools
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import typer
import yaml
from PIL import Image

from mminstruct import catalog
from mminstruct.config import validate
from mminstruct.models import checkpoint
from mminstruct.models.factory import create
from mminstruct.training.config import Recipe
from mminstruct.training.run import train

BATCH = 16
TOWERS = {"small": ("vit_small_patch16_224", 384, 6), "base": ("vit_base_patch16_224", 768, 12)}
LANGUAGE_MODEL = {
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 64,
}


def make_model(folder: Path, tower: str) -> dict[str, int]:
    """A random model in `folder`; returns the parameters of its parts."""
    name, width, heads = TOWERS[tower]
    nano = catalog.find(catalog.MODEL, "nano")
    row = yaml.safe_load(nano.read_text())
    row |= {"name": "benchmark", "connector": {"kind": "mlp"}}
    row["vision_encoder"] = {
        "source": "timm",
        "name": name,
        "architecture": {"img_size": 128, "patch_size": 16, "embed_dim": width, "depth": 12, "num_heads": heads},
        "image": {"size": 128},
    }
    row["language_model"]["architecture"] |= LANGUAGE_MODEL
    row["tokenizer"]["folder"] = str(nano.with_name(row["tokenizer"]["folder"]))
    path = folder / "benchmark.yaml"
    path.write_text(yaml.safe_dump(row))
    torch.manual_seed(0)
    model, processor = create(str(path))
    checkpoint.save(folder / "model", model, processor)
    counts: dict[str, int] = model.parameter_counts()
    return counts


def make_data(folder: Path, pictures: int) -> None:
    rng = random.Random(0)
    words = [
        "a",
        "red",
        "blue",
        "green",
        "circle",
        "square",
        "shape",
        "is",
        "on",
        "the",
        "left",
        "right",
        "of",
        "small",
        "large",
    ]
    (folder / "images").mkdir()
    items = []
    for number in range(pictures):
        small = Image.frombytes("RGB", (16, 16), rng.randbytes(16 * 16 * 3))
        small.resize((512, 512), Image.Resampling.BICUBIC).save(folder / f"images/{number}.jpg", quality=90)
        caption = " ".join(rng.choices(words, k=rng.randint(8, 16)))
        turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": caption}]
        items.append({"id": str(number), "image": f"images/{number}.jpg", "conversations": turns})
    (folder / "data.json").write_text(json.dumps(items))


def run(folder: Path, epochs: int, cached: bool) -> dict[str, Any]:
    """Seconds of each epoch, of all before the first one, and the losses."""
    with tempfile.TemporaryDirectory() as place:
        stage = {
            "name": "align",
            "train": ["connector"],
            "chat_template": {"name": "plain"},
            "batch_size": BATCH,
            "epochs": epochs,
            "learning_rate": 1e-3,
            "feature_cache": {"folder": f"{place}/features", "dtype": "bfloat16"} if cached else None,
        }
        recipe = {
            "name": "features",
            "summary": "A benchmark.",
            "model": str(folder / "model"),
            "data": {"path": str(folder / "data.json")},
            "log_every": 1,
            "stages": [stage],
        }
        started = time.monotonic()
        train(validate(Recipe, recipe, where="benchmark"), Path(place) / "run")
        whole = time.monotonic() - started
        lines = [json.loads(line) for line in (Path(place) / "run/metrics.jsonl").read_text().splitlines()]
    lines = lines[: len(lines) // epochs * epochs]
    steps = len(lines) // epochs
    ends = [0.0] + [lines[steps * number - 1]["seconds"] for number in range(1, epochs + 1)]
    return {
        "epochs": [end - begin for begin, end in itertools.pairwise(ends)],
        "before": whole - ends[-1],
        "losses": [line["loss"] for line in lines],
    }


def spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}}..{max(values):{form}})"


def main(rounds: int = 5, epochs: int = 3, pictures: int = 320, threads: int = 2, tower: str = "base") -> None:
    torch.set_num_threads(threads)
    if pictures % BATCH:
        raise typer.BadParameter(f"give a multiple of {BATCH} pictures, so that epochs end with a step")
    results: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        counts = make_model(folder, tower)
        make_data(folder, pictures)
        for number in range(rounds):
            for cached in rng.sample([False, True], 2):
                results[cached].append(run(folder, epochs, cached))
                seconds = ", ".join(f"{value:.2f}" for value in results[cached][-1]["epochs"])
                typer.echo(f"  round {number} {'cached' if cached else 'plain'}: {seconds} s", err=True)
    typer.echo(f"{pictures} pictures; parameters: {counts}\n")
    typer.echo("| | seconds without | seconds with cache | ratio |\n|---|---|---|---|")
    rows = [("all before the first epoch", [[one["before"] for one in results[kind]] for kind in (False, True)])]
    for epoch in range(epochs):
        rows.append((f"epoch {epoch + 1}", [[one["epochs"][epoch] for one in results[kind]] for kind in (False, True)]))
    for title, (plain, cached_seconds) in rows:
        ratios = [a / b for a, b in zip(plain, cached_seconds, strict=True)]
        typer.echo(f"| {title} | {spread(plain, '.2f')} | {spread(cached_seconds, '.2f')} | {spread(ratios, '.2f')} |")
    pairs = zip(results[False][0]["losses"], results[True][0]["losses"], strict=True)
    typer.echo(f"\nLargest difference of a step's loss: {max(abs(a - b) for a, b in pairs):.1e}")


if __name__ == "__main__":
    typer.run(main)
