"""One training run of a peer, for `benchmarks/training.py`, in a Python that has the peer installed.

    python benchmarks/training_peer.py ORDER.json          # transformers.Trainer or TRL's SFTTrainer

The order says: which peer, the folder of a transformers LLaVA with its processor, whether peft's LoRA learns instead of
all, the batches of examples (picture, question, answer) in the order of their use, threads, processes that load data,
and where to write {"ends": seconds at
which each step ended, "losses": of each step, "peak": megabytes}. Both peers get a correct padded batch: only the
answer and its end token have labels.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration, Trainer, TrainerCallback, TrainingArguments

IGNORE = -100


class Given(torch.utils.data.Sampler):
    """The batches as they are given."""

    def __init__(self, batches: list[list[dict[str, str]]]) -> None:
        ends = [0]
        for batch in batches:
            ends.append(ends[-1] + len(batch))
        self.numbers = [list(range(start, end)) for start, end in itertools.pairwise(ends)]

    def __iter__(self) -> Any:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


def in_batches(trainer: Any, batches: list[list[dict[str, str]]], workers: int) -> None:
    """Let a trainer take these batches; it would make some of equal size by itself."""
    loader = torch.utils.data.DataLoader(
        trainer.train_dataset, batch_sampler=Given(batches), collate_fn=trainer.data_collator, num_workers=workers
    )
    trainer.get_train_dataloader = lambda: loader


class Ends(TrainerCallback):
    def __init__(self) -> None:
        self.ends: list[float] = []
        self.losses: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ends.append(time.perf_counter())

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.losses.append(logs["loss"])


def collate(processor: Any, examples: list[dict[str, str]]) -> dict[str, torch.Tensor]:
    """`input_ids`, `attention_mask`, `labels` `[B, L]`, `pixel_values` `[B, 3, H, W]`, padded on the right."""
    images = []
    for example in examples:
        with Image.open(example["image"]) as image:
            images.append(image.convert("RGB"))
    answers = [f" {example['answer']}</s>" for example in examples]
    prompts = [f"USER: <image>\n{example['question']} ASSISTANT:" for example in examples]
    batch = processor(
        text=[prompt + answer for prompt, answer in zip(prompts, answers, strict=True)],
        images=images,
        padding=True,
        padding_side="right",
        add_special_tokens=False,
        return_tensors="pt",
    )
    labels = torch.full_like(batch["input_ids"], IGNORE)
    ids = processor.tokenizer(answers, add_special_tokens=False)["input_ids"]
    for row, (length, answer) in enumerate(zip(batch["attention_mask"].sum(1).tolist(), ids, strict=True)):
        labels[row, length - len(answer) : length] = torch.tensor(answer)
    return {**batch, "labels": labels}


def trl_rows(examples: list[dict[str, str]]) -> Any:
    from datasets import Dataset, List
    from datasets import Image as ImageFeature

    rows = {
        "images": [[example["image"]] for example in examples],
        "prompt": [[{"role": "user", "content": example["question"]}] for example in examples],
        "completion": [[{"role": "assistant", "content": example["answer"]}] for example in examples],
    }
    return Dataset.from_dict(rows).cast_column("images", List(ImageFeature()))


def main() -> None:
    order = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(order["threads"])
    torch.manual_seed(0)
    processor = AutoProcessor.from_pretrained(order["model"])
    model = LlavaForConditionalGeneration.from_pretrained(order["model"], dtype=torch.float32)
    if order["lora"]:
        from peft import LoraConfig, get_peft_model

        layers = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
        chosen = LoraConfig(
            r=16, lora_alpha=32, target_modules=layers, modules_to_save=["multi_modal_projector"], bias="none"
        )
        model = get_peft_model(model, chosen)
    watch = Ends()
    examples = [example for batch in order["batches"] for example in batch]
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "output_dir": folder,
            "max_steps": order["steps"],
            "learning_rate": order["learning_rate"],
            "weight_decay": 0.0,
            "lr_scheduler_type": "cosine",
            "max_grad_norm": 1.0,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
        }
        if order["peer"] == "trl":
            from trl import SFTConfig, SFTTrainer

            trainer = SFTTrainer(
                model=model,
                args=SFTConfig(max_length=None, bf16=False, gradient_checkpointing=False, **settings),
                train_dataset=trl_rows(examples),
                processing_class=processor,
                callbacks=[watch],
            )
        else:
            trainer = Trainer(
                model=model,
                args=TrainingArguments(remove_unused_columns=False, **settings),
                train_dataset=examples,
                data_collator=lambda examples: collate(processor, examples),
                callbacks=[watch],
            )
        in_batches(trainer, order["batches"], order["workers"])
        trainer.train()
    status = Path("/proc/self/status").read_text().split()
    peak = int(status[status.index("VmHWM:") + 1]) * 1024 / 1e6
    Path(order["out"]).write_text(json.dumps({"ends": watch.ends, "losses": watch.losses, "peak": peak}))


if __name__ == "__main__":
    main()
