"""Training a random model of LLaVA-1.5-7B's shape on one GPU: tokens and samples a second, MFU, memory.

    python benchmarks/gpu.py --out results.jsonl

Each case is a process of its own: CLIP ViT-L at 336 px (frozen), a connector that learns, Llama of 7B that learns whole
or by LoRA of rank 64; bfloat16 by autocast, AdamW in float32, data loaded by four processes. Lengths are simulated as
in benchmarks/planning.py (a picture of 576 tokens and a text, log-normal), cut at 2,048 tokens. `questions` are short
ones, ten about each picture. Padded batches hold so many conversations that they have about as many places as a pack.
The last steps are measured, once all kernels are made.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from PIL import Image

import mminstruct
from mminstruct import catalog
from mminstruct.config import validate
from mminstruct.conversation import Conversation, ImagePart, Media, Message, TextPart
from mminstruct.data.dataset import ConversationDataset, MicroBatches
from mminstruct.models.base_processor import BaseProcessor
from mminstruct.models.factory import read_row
from mminstruct.training.as_trained import as_trained
from mminstruct.training.batching import batching
from mminstruct.training.callbacks import MetricsLog
from mminstruct.training.config import Recipe
from mminstruct.training.frozen_weights import frozen_in_bfloat16
from mminstruct.training.preparing import prepare
from mminstruct.training.run import training_arguments
from mminstruct.training.stopping import stop_requests
from mminstruct.training.trainer import VisionLanguageTrainer

ROW, PICTURE, LONGEST, CONVERSATIONS = "llava-1.5-7b", 576, 2048, 480
STEPS, WARM_UP = 7, 3

FULL: dict[str, Any] = {"train": ["connector", "language_model"], "learning_rate": 1e-5, "share_prefix": False}
LORA: dict[str, Any] = {
    "train": ["connector"],
    "adapters": [{"kind": "lora", "part": "language_model", "rank": 64, "alpha": 128}],
    "learning_rate": 1e-5,
    "share_prefix": False,
}
PACK, PAD = {"pack_tokens": LONGEST, "accumulate": 8}, {"batch_size": 3, "accumulate": 7}
PADDED = "padded"  # in the name of a case: without rows, which a recipe cannot say
# Name -> what the stage says, what the recipe says, which conversations.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "full, packs of 2,048": ({**FULL, **PACK}, {"kernels": "liger"}, "llava"),
    "full, padded, 3 a batch": ({**FULL, **PAD}, {"kernels": "liger"}, "llava"),
    "full, packs of 2,048, without Liger": ({**FULL, **PACK}, {"kernels": "torch"}, "llava"),
    "LoRA, packs of 2,048": ({**LORA, **PACK}, {"kernels": "liger"}, "llava"),
    "LoRA, padded, 3 a batch": ({**LORA, **PAD}, {"kernels": "liger"}, "llava"),
    "LoRA, packs of 2,048, without Liger": ({**LORA, **PACK}, {"kernels": "torch"}, "llava"),
    "LoRA, packs of 8,192": ({**LORA, "pack_tokens": 8192, "accumulate": 2}, {"kernels": "liger"}, "llava"),
    "LoRA, questions, packs of 2,048": ({**LORA, **PACK}, {"kernels": "liger"}, "questions"),
    "LoRA, questions, packs of 2,048, pictures shared": (
        {**LORA, **PACK, "share_prefix": True},
        {"kernels": "liger"},
        "questions",
    ),
}


def conversations(kind: str, processor: BaseProcessor, folder: Path) -> list[Conversation]:
    """Simulated ones; each length in tokens is met to a few."""
    rng = np.random.default_rng(0)
    word = " red"  # one token of the package's own tokenizer
    found = []
    for number in range(CONVERSATIONS):
        pictured = kind == "questions" or rng.random() >= 0.06
        tokens = int(np.clip(rng.lognormal(5.0 if pictured else 6.3, 0.8), 16, LONGEST - PICTURE * pictured - 100))
        asked, answered = (20, 5) if kind == "questions" else (tokens // 3, tokens - tokens // 3)
        which = number // 10 if kind == "questions" else number
        path = folder / f"{which}.jpg"
        if pictured and not path.exists():
            pixels = np.random.default_rng(which).integers(0, 256, (336, 336, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
        question = [TextPart(text=("\n" if pictured else "") + word * asked)]
        found.append(
            Conversation(
                id=str(number),
                messages=[
                    Message(role="user", content=[ImagePart(index=0), *question] if pictured else question),
                    Message(role="assistant", content=[TextPart(text=word.strip() + word * answered)]),
                ],
                media=[Media(path=path.name)] if pictured else [],
            )
        )
    return found


def random_model() -> tuple[Any, BaseProcessor]:
    """Made on the GPU; its weights are numbers that bfloat16 holds, as those of most checkpoints."""
    row = read_row(ROW)[0].model_dump(mode="json")
    row["tokenizer"] = {"folder": str(catalog.folder(catalog.MODEL) / "nano"), "added_tokens": ["</s>"]}
    torch.manual_seed(0)
    with torch.device("cuda"):
        model, processor = mminstruct.create(row, dtype=torch.bfloat16)
    return model.float(), processor


def run(case: str, folder: Path, checkpointing: bool, out: Path) -> None:
    """One case, and the end of this process."""
    stage_settings, recipe_settings, kind = CASES[case]
    kept = {"activation_checkpointing": ["language_model"]} if checkpointing else {}
    content = {
        "name": "gpu",
        "summary": "A benchmark.",
        "model": ROW,
        "precision": "bf16",
        "workers": 4,
        "log_every": 1,
        "max_length": LONGEST,
        "data": {"path": "not read"},
        "stages": [{"name": "tune", "steps": STEPS, "warmup": 0.0, **stage_settings, **kept}],
        **recipe_settings,
    }
    recipe = validate(Recipe, content, where="benchmark")
    (stage,) = recipe.stages
    model, processor = random_model()
    dataset = ConversationDataset(conversations(kind, processor, folder), folder, processor, LONGEST)
    settings = training_arguments(recipe, stage, folder / "stages/tune")
    settings.save_strategy = "no"
    prepared = prepare(stage, recipe, settings, model, dataset)
    arranged = batching(stage, model, dataset, seed=0, processes=1)
    if PADDED in case:
        arranged = replace(arranged, batches=MicroBatches(dataset, False, False, None), packed=False)
    settings.max_steps = STEPS
    lines = folder / "metrics.jsonl"
    with frozen_in_bfloat16(model), stop_requests() as stop, as_trained(stage, model, recipe.kernels):
        VisionLanguageTrainer(
            model=model,
            args=settings,
            objective=prepared.objective,
            stage=stage,
            batching=arranged,
            stop=stop,
            bad_batch=folder / "bad.json",
            adapters=prepared.adapters,
            callbacks=[MetricsLog(lines, stage.name, arranged.plan)],
        ).train()
        found = summary([json.loads(line) for line in lines.read_text().splitlines()])
        with out.open("a") as file:
            file.write(json.dumps({"case": case, "activation_checkpointing": checkpointing, **found}) + "\n")
        os._exit(0)  # on the way out the model would go back into the CPU's memory


def summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    measured = lines[WARM_UP:]
    names = ("tokens_per_second", "conversations_per_second", "mfu", "padding_share", "data_wait_share")
    found = {name: statistics.median(line[name] for line in measured) for name in names}
    return {
        **found,
        "memory_gb": lines[-1]["memory_gb"],
        "losses": [line["loss"] for line in lines],
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
    }


def one(case: str, folder: Path, out: Path) -> None:
    """Without activation checkpointing if that fits."""
    try:
        run(case, folder, False, out)
    except torch.OutOfMemoryError:
        traceback.clear_frames(sys.exc_info()[2])  # they hold the model
    torch.cuda.empty_cache()
    run(case, folder, True, out)


def main(
    case: str = "", out: Path = Path("gpu.jsonl"), only: str = "", limit: int = 120, folder: Path = Path()
) -> None:
    if case:
        one(case, folder, out)
        return
    environment = {**os.environ, "PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    for name in CASES:
        if only in name:
            order = [sys.executable, __file__, "--case", name, "--out", str(out), "--folder"]
            try:
                with tempfile.TemporaryDirectory() as place:
                    done = subprocess.run(
                        [*order, place], capture_output=True, text=True, timeout=limit, env=environment
                    )
            except subprocess.TimeoutExpired:
                typer.echo(f"{name}: not done in {limit} s", err=True)
                continue
            if done.returncode:
                typer.echo(f"{name} failed:\n{done.stderr[-1500:]}", err=True)
    typer.echo(table([json.loads(line) for line in out.read_text().splitlines()]))


def table(results: list[dict[str, Any]]) -> str:
    lines = [
        "| | tokens/s | samples/s | MFU | padding | waiting for data | GB | activation checkpointing |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for found in results:
        lines.append(
            f"| {found['case']} | {found['tokens_per_second']:,.0f} | {found['conversations_per_second']:.1f} | "
            f"{found['mfu']:.1%} | {found['padding_share']:.1%} | {found['data_wait_share']:.1%} | "
            f"{found['memory_gb']:.1f} | {'yes' if found['activation_checkpointing'] else 'no'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
