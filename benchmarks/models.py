"""Ours against transformers' own classes, with the same weights, in one run.

    python benchmarks/models.py

For each kind of model a miniature, small enough for a CPU, is made and exported with `mminstruct zoo export`, and both
are timed in turns: loading model and processor, a forward pass over four prompts with a picture each, and greedy
generation. Each figure is the median of the ratios of neighbouring measurements, so drift of the machine falls on both
sides. Peak memory is that of a process which imports, loads and runs one forward pass, less that of one which only
imports.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import typer
from PIL import Image
from transformers import (
    AutoTokenizer,
    IdeficsForVisionText2Text,
    LlavaForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaProcessor,
    PreTrainedModel,
)

import mminstruct
from mminstruct.conversation import Conversation, Media, Message, image, text
from mminstruct.models import checkpoint, interop
from mminstruct.models.factory import read_row

BATCH, NEW_TOKENS = 4, 32
Batch = dict[str, torch.Tensor]

VISION = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 5, "num_attention_heads": 8}
TEXT = {
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "vocab_size": 4096,
}
GATED = {
    "resampler": {"latents": 16, "depth": 2, "heads": 4, "head_size": 64, "qk_norm": True, "activation": "relu"},
    "every": 2,
    "heads": 8,
    "intermediate_size": 688,
}


@dataclass(frozen=True)
class Case:
    """A row, made narrow, the format that transformers reads it in, its classes, and our batch in their form."""

    row: str
    format: str
    model: type[PreTrainedModel]
    processor: Any
    batch: Callable[[Batch, int], Batch]
    connector: dict[str, Any]


def plain(batch: Batch, image_token: int) -> Batch:
    return batch


def tiles(batch: Batch, image_token: int) -> Batch:
    sizes = batch["media"][:, 1:]
    pixels = batch["pixel_values"].unflatten(0, (len(sizes), -1))
    return {
        **{name: batch[name] for name in ("input_ids", "attention_mask")},
        "pixel_values": pixels,
        "image_sizes": sizes,
    }


def gates(batch: Batch, image_token: int) -> Batch:
    """One picture a prompt, which every token from its place on looks at."""
    seen = (batch["input_ids"] == image_token).cumsum(-1).clamp(max=1).unsqueeze(-1)
    rest = {name: batch[name] for name in ("input_ids", "attention_mask")}
    return {**rest, "pixel_values": batch["pixel_values"].unsqueeze(1), "image_attention_mask": seen}


CASES = {
    "llava": Case("llava-1.5-7b", "hf-llava", LlavaForConditionalGeneration, LlavaProcessor, plain, {}),
    "llava-next": Case(
        "llava-1.6-vicuna-7b", "hf-llava-next", LlavaNextForConditionalGeneration, LlavaNextProcessor, tiles, {}
    ),
    "idefics": Case("idefics-9b-instruct", "hf-idefics", IdeficsForVisionText2Text, AutoTokenizer, gates, GATED),
}


def narrow(case: Case) -> dict[str, Any]:
    """The row's parts and wiring with a narrow tower and language model: 64 px, 16 patches, 256 wide, 4 layers."""
    row = read_row(case.row)[0].model_dump(mode="json")
    size = {"image_size": 64, "patch_size": 16}
    row["tiny"] |= {
        "image_size": 64,
        "vision_encoder": VISION | size,
        "language_model": TEXT,
        "connector": case.connector,
    }
    return row


def our_batch(processor: Any) -> Batch:
    record = Conversation(
        id="one",
        messages=[Message(role="user", content=[image(), text("what color is the shape in the picture? " * 4)])],
        media=[Media(path="a.png")],
    )
    sample = processor.prompt(record, [Image.new("RGB", (90, 70), (200, 30, 30))])
    return dict(processor.collate([sample] * BATCH))


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def side_by_side(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """(median seconds of ours, of theirs, median of the ratios ours / theirs); each goes first every other time."""
    pairs = []
    for turn in range(rounds + 2):
        first, second = (ours, theirs) if turn % 2 else (theirs, ours)
        one, two = seconds(first), seconds(second)
        pairs.append((one, two) if turn % 2 else (two, one))
    kept = pairs[2:]  # the first two warm up
    return (
        statistics.median(a for a, _ in kept),
        statistics.median(b for _, b in kept),
        statistics.median(a / b for a, b in kept),
    )


def run(case: Case, name: str, folder: Path, rounds: int) -> None:
    ours_folder, theirs_folder = folder / "ours", folder / "theirs"
    checkpoint.save(ours_folder, *mminstruct.create(narrow(case), tiny=True))
    interop.export_checkpoint(ours_folder, theirs_folder, case.format)
    model, processor = mminstruct.load(ours_folder)
    other = case.model.from_pretrained(theirs_folder).eval()
    batch = our_batch(processor)
    given = case.batch(batch, model.config.image_token_id)
    torch.save({"batch": given}, folder / "theirs.pt")
    length = batch["input_ids"].shape[1]

    def forward(of: Any, inputs: Batch) -> Callable[[], Any]:
        return torch.inference_mode()(lambda: of(**inputs, use_cache=False))

    def generate(of: Any, inputs: Batch) -> Callable[[], object]:
        fixed = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "do_sample": False}
        return lambda: of.generate(**inputs, **fixed)

    def load_theirs() -> tuple[Any, Any]:
        return case.model.from_pretrained(theirs_folder), case.processor.from_pretrained(theirs_folder)

    difference = (forward(model, batch)().logits - forward(other, given)().logits).abs().max().item()
    parameters = sum(model.parameter_counts().values())
    typer.echo(
        f"{name}: {parameters:,} parameters, batch {BATCH}, {length} tokens, largest difference {difference:.1e}"
    )
    rows = (
        ("load", lambda: mminstruct.load(ours_folder), load_theirs, 0),
        ("forward", forward(model, batch), forward(other, given), BATCH * length),
        ("generate", generate(model, batch), generate(other, given), BATCH * NEW_TOKENS),
    )
    for what, mine, its, tokens in rows:
        a, b, ratio = side_by_side(mine, its, rounds)
        speeds = f", {tokens / a:,.0f} and {tokens / b:,.0f} tokens/s" if tokens else ""
        typer.echo(f"{name} {what}: ours {1000 * a:.1f} ms, transformers {1000 * b:.1f} ms, ratio {ratio:.3f}{speeds}")
    memory = {who: peak(name, who, folder) for who in ("ours", "theirs", "ours nothing", "theirs nothing")}
    mine, its = (memory[who] - memory[f"{who} nothing"] for who in ("ours", "theirs"))
    typer.echo(f"{name} peak memory: ours {mine:.1f} MB, transformers {its:.1f} MB, ratio {mine / its:.3f}")


def peak(name: str, who: str, folder: Path) -> float:
    """Megabytes (1e6) that a process of its own took at most; the smallest of three, which is the least disturbed."""
    command = [sys.executable, __file__, "--child", json.dumps([name, who, str(folder)])]
    return min(float(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(3))


def child(order: str) -> None:
    name, who, folder = json.loads(order)
    case = CASES[name]
    with torch.inference_mode():
        if who == "ours":
            model, processor = mminstruct.load(Path(folder) / "ours")
            model(**our_batch(processor), use_cache=False)
        elif who == "theirs":
            other = case.model.from_pretrained(Path(folder) / "theirs").eval()
            case.processor.from_pretrained(Path(folder) / "theirs")
            other(**torch.load(Path(folder) / "theirs.pt", weights_only=True)["batch"], use_cache=False)
    # Not getrusage: its peak begins with that of the process that forked this one.
    status = Path("/proc/self/status").read_text().split()
    typer.echo(int(status[status.index("VmHWM:") + 1]) * 1024 / 1e6)


def main(rounds: int = 30, only: str = "", child_order: str = typer.Option("", "--child", hidden=True)) -> None:
    if child_order:
        child(child_order)
        return
    torch.manual_seed(0)
    for name, case in CASES.items():
        if only in ("", name):
            with tempfile.TemporaryDirectory() as folder:
                run(case, name, Path(folder), rounds)


if __name__ == "__main__":
    typer.run(main)
