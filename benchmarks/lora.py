"""A step with LoRA by peft's own layers and as training has it: forward and backward pass, in pairs in one process.

    python benchmarks/lora.py             # float32
    python benchmarks/lora.py --half      # bfloat16 by autocast

The model and the answers of `mixed` in `benchmarks/training.py`: sixteen conversations in a row, LoRA of rank 16 on the
language model, the projector learns whole.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from pathlib import Path

import torch
import typer
from training import THREADS, lengthened, llava_json, make_model, make_tokenizer, questions, spread

import mminstruct
from mminstruct import formats
from mminstruct.data.dataset import ConversationDataset
from mminstruct.models.adapters import LoraConfig, attach
from mminstruct.models.base_processor import BaseProcessor
from mminstruct.models.last_layer import last_layer_where_read
from mminstruct.models.packing import packed
from mminstruct.models.parts import freeze
from mminstruct.training import objectives
from mminstruct.training.linear_layers import lean_linear_layers

ROW = 16


def main(pairs: int = 25, warm_up: int = 3, half: bool = False) -> None:
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tokenizer = make_tokenizer()
        make_model(tokenizer, 0, folder)
        (folder / "data.json").write_text(llava_json(lengthened(questions(200), tokenizer)))
        model, processor = mminstruct.load(folder / "ours")
        assert isinstance(processor, BaseProcessor)
        dataset = ConversationDataset(list(formats.read(folder / "data.json")), Path("/"), processor, 2048)
        batch = processor.pack([dataset[index] for index in range(ROW)], share_prefix=False)
    freeze(model, ["connector"])
    attach(model, LoraConfig(kind="lora", part="language_model", rank=16, alpha=32))
    model.train()

    def seconds(lean: bool) -> float:
        with lean_linear_layers(model) if lean else contextlib.nullcontext():
            started = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = objectives.get("sft")(model, dict(batch)).loss_sum
            loss.backward()
            ended = time.perf_counter()
        model.zero_grad()
        return ended - started

    with packed(model), last_layer_where_read(model):
        found = [(seconds(False), seconds(True)) for _ in range(pairs)][warm_up:]
    pefts, ours = (1e3 * statistics.median(side) for side in zip(*found, strict=True))
    ratio = spread([one / two for one, two in found], ".3f")
    typer.echo(f"{'bfloat16' if half else 'float32'}: peft {pefts:.0f} ms, ours {ours:.0f} ms, ratio {ratio}")


if __name__ == "__main__":
    typer.run(main)
