"""Memory of a training process, measured on a CPU, against what `mminstruct train --dry-run` says.

    python benchmarks/memory.py FOLDER [CASE ...]          # prints the table; FOLDER is kept, one for each shape

A model of 125 million random parameters trains three steps on made-up pictures and texts, each case in processes of its
own. Measured is the most memory that a process had resident during its steps (`VmHWM`), less what it had when all
was imported and no model there. What making the model ready takes is not in it, nor is the final save. All numbers of
the table are megabytes (1e6).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import deepspeed  # noqa: F401 - what is imported before the fork does not count
import peft  # noqa: F401
import typer
from PIL import Image
from transformers import TrainerCallback

from mminstruct import catalog
from mminstruct.config import dump_yaml, load_yaml, validate
from mminstruct.files import write_json
from mminstruct.training import run, stage_run
from mminstruct.training.config import Recipe
from mminstruct.training.dry_run import UNDIVIDED, dry_run
from mminstruct.training.trainer import VisionLanguageTrainer

FULL = {"train": ["vision_encoder", "connector", "language_model"]}
LORA = {"train": ["connector"], "adapters": [{"kind": "lora", "part": "language_model", "rank": 16, "alpha": 32}]}
ALIGN = {"train": ["connector"]}
AGAIN = {"activation_checkpointing": ["language_model"]}
# stage, settings of the recipe, processes
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "full fp32": (FULL, {}, 1),
    "full fp32, checkpointing": (FULL | AGAIN, {}, 1),
    "full fp32, accumulate 2": (FULL | {"accumulate": 2}, {}, 1),
    "full bf16": (FULL, {"precision": "bf16"}, 1),
    "full bf16, checkpointing": (FULL | AGAIN, {"precision": "bf16"}, 1),
    "connector fp32": (ALIGN, {}, 1),
    "connector fp32, checkpointing": (ALIGN | AGAIN, {}, 1),
    "connector bf16": (ALIGN, {"precision": "bf16"}, 1),
    "LoRA fp32": (LORA, {}, 1),
    "LoRA bf16": (LORA, {"precision": "bf16"}, 1),
    "DDP fp32": (FULL, {}, 2),
    "ZeRO-1 fp32": (FULL, {"deepspeed": "zero1"}, 2),
    "ZeRO-2 fp32": (FULL, {"deepspeed": "zero2"}, 2),
    "ZeRO-2 bf16": (FULL, {"deepspeed": "zero2", "precision": "bf16"}, 2),
    "ZeRO-2 LoRA bf16": (LORA, {"deepspeed": "zero2", "precision": "bf16"}, 2),
    "ZeRO-3 fp32": (FULL, {"deepspeed": "zero3"}, 2),
    "ZeRO-3 bf16": (FULL, {"deepspeed": "zero3", "precision": "bf16"}, 2),
}


@dataclass(frozen=True)
class Shape:
    """Of the language model, and conversations in a micro-batch; 125 million parameters unless told otherwise."""

    width: int = 768
    layers: int = 8
    batch: int = 8


def prepare(folder: Path, shape: Shape) -> None:
    """The model's row and the data."""
    row = load_yaml(catalog.find(catalog.MODEL, "nano"))
    nano = catalog.find(catalog.MODEL, "nano").parent / row["tokenizer"]["folder"]
    row |= {"name": "bench", "tokenizer": {"folder": str(nano)}}
    row["vision_encoder"] = {
        "source": "timm",
        "name": "vit_small_patch16_224",
        "architecture": {"img_size": 64},
        "image": {"size": 64},
    }
    row["connector"] = {"kind": "mlp"}
    row["language_model"]["architecture"] |= {
        "vocab_size": 30000, "hidden_size": shape.width, "intermediate_size": shape.width * 8 // 3,
        "num_hidden_layers": shape.layers, "num_attention_heads": shape.width // 64,
        "num_key_value_heads": shape.width // 64, "head_dim": 64, "initializer_range": 0.02,
        "tie_word_embeddings": False,
    }  # fmt: skip
    row["tiny"]["vision_encoder"] = {"img_size": 64, "depth": 2, "embed_dim": 32, "num_heads": 2}
    (folder / "bench.yaml").write_text(json.dumps(row))
    rng = random.Random(0)
    items = []
    for number in range(64):
        Image.new("RGB", (64, 64), tuple(rng.choices(range(256), k=3))).save(folder / f"{number}.png")
        answer = " ".join(rng.choices(["red", "blue", "circle", "shape", "is", "the"], k=40))
        turns = [{"from": "human", "value": "<image>\nwhat is there"}, {"from": "gpt", "value": answer}]
        items.append({"id": str(number), "image": f"{number}.png", "conversations": turns})
    (folder / "data.json").write_text(json.dumps(items))


def recipe(folder: Path, case: str, shape: Shape) -> Recipe:
    stage, settings, _ = CASES[case]
    whole = {
        "name": "memory", "summary": "A case of the memory table.", "model": str(folder / "bench.yaml"),
        "data": {"path": str(folder / "data.json")}, "data_cache": str(folder / "cache"), "save_every": 1000,
        "stages": [{"name": "s", "learning_rate": 1e-4, "batch_size": shape.batch, "steps": 3, **stage}], **settings,
    }  # fmt: skip
    return validate(Recipe, whole, where=case)


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def worker(path: Path, out: Path) -> None:
    """Train, and write down what memory this process took."""

    class FromTheFirstStep(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 0:
                Path("/proc/self/clear_refs").write_text("5")

    class Measured(Exception):  # noqa: N818 - not an error
        """The run has told what it was started for; what it would save is not measured."""

    class Measuring(VisionLanguageTrainer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.add_callback(FromTheFirstStep)

        def _save_checkpoint(self, *args: Any, **kwargs: Any) -> NoReturn:
            # Pages of libraries are touched anew after a fork; they are no memory of training.
            seen["files"] = _status("RssFile") - seen["files before"]
            seen["peak"] = _status("VmHWM") - seen["before"] - seen["files"]
            raise Measured

    stage_run.VisionLanguageTrainer = Measuring  # type: ignore[misc]
    seen = {"before": _status("VmRSS"), "files before": _status("RssFile")}
    with contextlib.suppress(Measured):
        run.train(validate(Recipe, load_yaml(path), str(path)), out)
    rank = os.environ.get("RANK", "0")
    write_json(out.with_name(f"{out.name}-{rank}.json"), seen)


def measure(folder: Path, case: str, shape: Shape) -> int:
    """Bytes of the process that took most; each is a fork of this one, which has imported everything."""
    name = case.replace(" ", "-").replace(",", "")
    path, out = folder / f"{name}.yaml", folder / f"run-{name}"
    path.write_text(dump_yaml(recipe(folder, case, shape)))
    _, _, processes = CASES[case]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            if processes > 1:
                where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
                os.environ |= {name: str(value) for name, value in where.items()}
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            status = 1
            try:
                worker(path, out)
                status = 0
            except Exception:
                logging.exception("%s, process %d", case, rank)
            finally:
                os._exit(status)  # what the parent would do at its end is not the child's
        children.append(child)
    if any([os.waitpid(child, 0)[1] for child in children]):
        raise SystemExit(f"{case} failed")
    found = [json.loads((folder / f"{out.name}-{rank}.json").read_text())["peak"] for rank in range(processes)]
    return max(found)


def estimate(folder: Path, case: str, shape: Shape) -> dict[str, int]:
    settings = recipe(folder, case, shape)
    (stage,) = dry_run(settings, CASES[case][2], measure_time=False)
    memory = stage.memory[settings.deepspeed or UNDIVIDED]
    return asdict(memory) | {"total": memory.total}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="Cases that its results.json has are not measured again.")
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--width", type=int, default=Shape.width, help="of the language model, a multiple of 192")
    parser.add_argument("--layers", type=int, default=Shape.layers)
    parser.add_argument("--batch", type=int, default=Shape.batch, help="conversations in a micro-batch")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    shape = Shape(arguments.width, arguments.layers, arguments.batch)
    prepare(arguments.folder, shape)
    path = arguments.folder / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    cases = arguments.cases or list(CASES)
    for case in cases:  # all of them before the first estimate, which leaves freed memory behind for the forks
        if case not in results:
            results[case] = {"measured": measure(arguments.folder, case, shape)}
            write_json(path, results)
    names = ("weights", "gradients", "optimizer", "activations", "libraries", "holes", "total")
    typer.echo(f"| case | processes | {' | '.join(names[:-1])} | estimated | measured | ratio |")
    typer.echo("|---|---|---|---|---|---|---|---|---|---|---|")
    for case in cases:
        found = results[case]["estimated"] = estimate(arguments.folder, case, shape)
        write_json(path, results)
        measured = results[case]["measured"]
        cells = [f"{value / 1e6:,.0f}" for value in (*(found[name] for name in names), measured)]
        typer.echo(f"| {case} | {CASES[case][2]} | {' | '.join(cells)} | {found['total'] / measured:.2f} |")


if __name__ == "__main__":
    main()
