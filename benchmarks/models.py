"""Ours against transformers' `LlavaForConditionalGeneration`, with the same weights, in one run.

    python benchmarks/models.py

A LLaVA-1.5-shaped model small enough for a CPU is made, exported with `mminstruct zoo export`, and both are timed in
turns: loading model and processor, a forward pass over prompts with a picture each, and greedy generation. Each figure
is the median of the ratios of neighbouring measurements, so drift of the machine falls on both sides.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import typer
from PIL import Image
from transformers import LlavaForConditionalGeneration, LlavaProcessor

import mminstruct
from mminstruct.conversation import Conversation, Media, Message, image, text
from mminstruct.models import checkpoint, interop
from mminstruct.models.factory import read_row

BATCH, NEW_TOKENS = 4, 32


def small_llava() -> dict:
    """LLaVA-1.5's parts and wiring with a narrow tower and language model: 64 px, 16 patches, 256 wide, 4 layers."""
    row = read_row("llava-1.5-7b")[0].model_dump(mode="json")
    row["tiny"] = {
        "image_size": 64,
        "vision_encoder": {
            "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 5, "num_attention_heads": 8,
            "image_size": 64, "patch_size": 16,
        },
        "language_model": {
            "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 8,
            "num_key_value_heads": 8, "vocab_size": 4096,
        },
    }  # fmt: skip
    return row


def load_theirs(folder: Path) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    return LlavaForConditionalGeneration.from_pretrained(folder), LlavaProcessor.from_pretrained(folder)


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


def main(rounds: int = 30) -> None:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        ours_folder, theirs_folder = Path(temporary) / "ours", Path(temporary) / "theirs"
        checkpoint.save(ours_folder, *mminstruct.create(small_llava(), tiny=True))
        interop.export_checkpoint(ours_folder, theirs_folder, "hf-llava")
        model, processor = mminstruct.load(ours_folder)
        other = LlavaForConditionalGeneration.from_pretrained(theirs_folder).eval()
        record = Conversation(
            id="one",
            messages=[Message(role="user", content=[image(), text("what color is the shape in the picture? " * 4)])],
            media=[Media(path="a.png")],
        )
        sample = processor.prompt(record, [Image.new("RGB", (90, 70), (200, 30, 30))])
        batch = processor.collate([sample] * BATCH)
        length = batch["input_ids"].shape[1]

        def forward(of: torch.nn.Module) -> Callable[[], object]:
            return torch.inference_mode()(lambda: of(**batch, use_cache=False))

        def generate(of: LlavaForConditionalGeneration) -> Callable[[], object]:
            fixed = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "do_sample": False}
            return lambda: of.generate(**batch, **fixed)

        difference = (forward(model)().logits - forward(other)().logits).abs().max().item()
        rows = (
            ("load", lambda: mminstruct.load(ours_folder), lambda: load_theirs(theirs_folder), 0),
            ("forward", forward(model), forward(other), BATCH * length),
            ("generate", generate(model), generate(other), BATCH * NEW_TOKENS),
        )  # fmt: skip
        parameters = sum(model.parameter_counts().values())
        typer.echo(f"{parameters:,} parameters, batch {BATCH}, {length} tokens, largest difference {difference:.1e}")
        for name, mine, its, tokens in rows:
            a, b, ratio = side_by_side(mine, its, rounds)
            speeds = f", {tokens / a:,.0f} and {tokens / b:,.0f} tokens/s" if tokens else ""
            typer.echo(f"{name}: ours {1000 * a:.1f} ms, transformers {1000 * b:.1f} ms, ratio {ratio:.3f}{speeds}")


if __name__ == "__main__":
    typer.run(main)
