"""How many operators a micro-batch starts, with layers as peft and autocast have them and as training has them.

    python benchmarks/launches.py

On a GPU each operator that computes is at least one kernel, which the CPU has to start; views are none and do not
count. A language model of 32 narrow layers behind the nano encoder, one conversation in a row, bfloat16 by autocast,
frozen matrices kept in bfloat16; forward and backward pass of a micro-batch, a mean over a step of eight. The optimiser
and the movement of a batch to the device are left out.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

import torch
import typer
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

import mminstruct
from mminstruct import catalog
from mminstruct.conversation import Conversation, ImagePart, Media, Message, TextPart
from mminstruct.models.adapters import LoraConfig, attach
from mminstruct.models.factory import read_row
from mminstruct.models.last_layer import last_layer_where_read
from mminstruct.models.packing import packed
from mminstruct.models.parts import freeze
from mminstruct.training import objectives
from mminstruct.training.frozen_weights import frozen_in_bfloat16
from mminstruct.training.linear_layers import lean_linear_layers

LAYERS, MICRO_BATCHES = 32, 8
_VIEWS = {"view", "t", "transpose", "unsqueeze", "squeeze", "_unsafe_view", "detach", "expand", "slice", "permute",
          "alias", "select", "split", "split_with_sizes", "as_strided", "unbind"}  # fmt: skip


class _Started(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name not in _VIEWS:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def count(lora: bool, lean: bool) -> Counter[str]:
    """Operators of a step's micro-batches together."""
    row = read_row("nano")[0].model_dump(mode="json")
    row["language_model"]["architecture"]["num_hidden_layers"] = LAYERS
    row["tokenizer"]["folder"] = str(catalog.folder(catalog.MODEL) / row["tokenizer"]["folder"])
    torch.manual_seed(0)
    model, processor = mminstruct.create(row)
    freeze(model, ["connector"] if lora else ["connector", "language_model"])
    if lora:
        attach(model, LoraConfig(kind="lora", part="language_model", rank=8))
    conversation = Conversation(
        id="one",
        messages=[
            Message(role="user", content=[ImagePart(index=0), TextPart(text="is there a red circle?")]),
            Message(role="assistant", content=[TextPart(text="yes, there is")]),
        ],
        media=[Media(path="none.png")],
    )
    batch = processor.pack([processor.training_sample(conversation, [Image.new("RGB", (64, 64))])])
    model.train()
    started = _Started()
    with (
        packed(model),
        last_layer_where_read(model),
        lean_linear_layers(model, keep=True) if lean else contextlib.nullcontext(),
        frozen_in_bfloat16(model),
        started,
    ):
        for _ in range(MICRO_BATCHES):
            with torch.autocast("cpu", torch.bfloat16):
                loss = objectives.get("sft")(model, batch).loss_sum
            loss.backward()
    return started.counts


def main() -> None:
    lines = ["| a micro-batch | all | products | casts | sums and products of elements |", "|---|---|---|---|---|"]
    for lora in (False, True):
        for lean in (False, True):
            found = {name: number / MICRO_BATCHES for name, number in count(lora, lean).items()}
            groups = (
                found.values(),
                [found.get(name, 0) for name in ("mm", "addmm")],
                [found.get("_to_copy", 0)],
                [found.get(name, 0) for name in ("mul", "mul_", "add", "add_")],
            )
            what = "LoRA" if lora else "all learn"
            how = "as training has it" if lean else "by peft and autocast" if lora else "by autocast"
            lines.append(f"| {what}, {how} | " + " | ".join(f"{sum(group):,.0f}" for group in groups) + " |")
    typer.echo("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
