"""Training a random model of LLaVA-1.5-7B's shape on one GPU: tokens and samples a second, MFU, memory.

    python benchmarks/gpu.py --out results.jsonl

CLIP ViT-L at 336 px (frozen), a connector that learns, a Llama of 7B that learns whole or by LoRA of rank 64; bfloat16
by autocast, AdamW in float32, data loaded by four processes. Lengths are simulated as in benchmarks/planning.py (a
picture of 576 tokens and a text, log-normal), cut at 2,048 tokens. `questions` are short ones, ten about each picture.
Padded batches hold so many conversations that they have about as many places as a pack. The last steps are measured,
once all kernels are made.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

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
from mminstruct.training.preparing import Prepared, prepare
from mminstruct.training.stage_run import training_arguments
from mminstruct.training.stopping import stop_requests
from mminstruct.training.trainer import VisionLanguageTrainer

ROW, PICTURE, LONGEST, CONVERSATIONS = "llava-1.5-7b", 576, 2048, 480
STEPS, WARM_UP = 7, 3

# What the stages of a process say; its cases share one model.
GROUPS: dict[str, dict[str, Any]] = {
    "LoRA": {
        "train": ["connector"],
        "adapters": [{"kind": "lora", "part": "language_model", "rank": 64, "alpha": 128}],
        "learning_rate": 1e-5,
        "share_prefix": False,
    },
    "full": {"train": ["connector", "language_model"], "learning_rate": 1e-5, "share_prefix": False},
}
PACK: dict[str, Any] = {"pack_tokens": LONGEST, "accumulate": 8}


@dataclass(frozen=True)
class Case:
    """What a case says on top of its group.

    Attributes:
        padded: without rows, which a recipe cannot say.
        data: which conversations.
    """

    group: str
    name: str
    stage: dict[str, Any]
    kernels: Literal["torch", "liger"] = "liger"
    padded: bool = False
    data: str = "llava"


AGAIN = {"activation_checkpointing": ["language_model"]}
CASES = [
    Case("LoRA", "packs of 8,192", {"pack_tokens": 8192, "accumulate": 2}),
    Case("LoRA", "padded, 8 a batch", {"batch_size": 8, "accumulate": 2}, padded=True),
    Case("LoRA", "packs of 16,384", {"pack_tokens": 16384}),
    Case("LoRA", "packs of 2,048", PACK),
    Case("LoRA", "packs of 2,048, without Liger", PACK, kernels="torch"),
    Case("LoRA", "questions, packs of 2,048", PACK, data="questions"),
    Case("LoRA", "questions, packs of 2,048, pictures shared", {**PACK, "share_prefix": True}, data="questions"),
    Case("full", "packs of 8,192", {"pack_tokens": 8192, "accumulate": 2, **AGAIN}),
    Case("full", "padded, 8 a batch", {"batch_size": 8, "accumulate": 2, **AGAIN}, padded=True),
    Case("full", "packs of 4,096", {"pack_tokens": 4096, "accumulate": 4}),
    Case("full", "packs of 2,048", PACK),
    Case("full", "packs of 2,048, without Liger", PACK, kernels="torch"),
]


def conversations(kind: str, processor: BaseProcessor, folder: Path) -> list[Conversation]:
    """Simulated ones; each length in tokens is met to a few."""
    rng = np.random.default_rng(0)
    word = " red"  # one token of the package's own tokenizer
    found = []
    for number in range(CONVERSATIONS):
        pictured = kind == "questions" or rng.random() >= 0.06
        tokens = int(np.clip(rng.lognormal(5.0 if pictured else 6.3, 0.8), 16, LONGEST - PICTURE * pictured - 200))
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


def recipe(case: Case) -> Recipe:
    content = {
        "name": "gpu",
        "summary": "A benchmark.",
        "model": ROW,
        "precision": "bf16",
        "kernels": case.kernels,
        "workers": 4,
        "log_every": 1,
        "max_length": LONGEST,
        "data": {"path": "not read"},
        "stages": [{"name": "tune", "steps": STEPS, "warmup": 0.0, **GROUPS[case.group], **case.stage}],
    }
    return validate(Recipe, content, where="benchmark")


def run(group: str, only: str, out: Path, folder: Path) -> None:
    """All cases of a group, and the end of this process."""
    cases = [case for case in CASES if case.group == group and only in case.name]
    model, processor = random_model()
    data = {kind: conversations(kind, processor, folder) for kind in ("llava", "questions")}
    first = recipe(cases[0])
    settings = training_arguments(first, first.stages[0], folder / "stages/tune")
    dataset = ConversationDataset(data["llava"], folder, processor, LONGEST)
    prepared = prepare(first.stages[0], first, settings, model, dataset)
    with frozen_in_bfloat16(model):
        for number, case in enumerate(cases):
            dataset = ConversationDataset(data[case.data], folder, processor, LONGEST)
            found = measure(case, model, dataset, prepared, folder / str(number))
            line = json.dumps(
                {"case": f"{group}, {case.name}", "computed_again": AGAIN.items() <= case.stage.items(), **found}
            )
            typer.echo(line, err=True)
            with out.open("a") as file:
                file.write(line + "\n")
        os._exit(0)  # on the way out the model would go back into the CPU's memory


def measure(case: Case, model: Any, dataset: ConversationDataset, prepared: Prepared, place: Path) -> dict[str, Any]:
    settled = recipe(case)
    (stage,) = settled.stages
    settings = training_arguments(settled, stage, place / "stages/tune")
    settings.save_strategy = "no"
    settings.max_steps = STEPS
    arranged = batching(stage, model, dataset, seed=0, processes=1)
    if case.padded:
        arranged = replace(arranged, batches=MicroBatches(dataset, False, False, None), packed=False)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    lines = place / "metrics.jsonl"
    with stop_requests() as stop, as_trained(stage, model, settled.kernels):
        trainer = VisionLanguageTrainer(
            model=model,
            args=settings,
            objective=prepared.objective,
            stage=stage,
            batching=arranged,
            stop=stop,
            bad_batch=place / "bad.json",
            adapters=prepared.adapters,
            callbacks=[MetricsLog(lines, stage.name, arranged.plan)],
        )
        trainer.train()
    trainer.unwrap()
    model.zero_grad()
    return summary([json.loads(line) for line in lines.read_text().splitlines()])


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


def main(
    group: str = "", only: str = "", out: Path = Path("gpu.jsonl"), limit: int = 300, folder: Path = Path()
) -> None:
    if group:
        run(group, only, out, folder)
        return
    environment = {**os.environ, "PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    for name in GROUPS:
        with tempfile.TemporaryDirectory() as place:
            order = [sys.executable, __file__, "--group", name, "--out", str(out), "--folder", place]
            subprocess.run(order, check=True, timeout=limit, env=environment)
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
            f"{found['memory_gb']:.1f} | {'yes' if found['computed_again'] else 'no'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
