"""Training speed against transformers.Trainer and TRL, with the same weights, the same examples and the same batches.

    python benchmarks/training.py --peer-python PEER/bin/python --rounds 10

PEER has torch, torchvision, transformers, accelerate, peft, datasets and trl, which `mixed` is compared with. One tiny
random LLaVA (CLIP of 64 px and 64 patches, Llama of 256 x 4, 5.3 M parameters, float32) is made with transformers,
saved, and imported with `mminstruct zoo import`. Each step of a peer sees the conversations that a step of ours sees,
so losses can be compared step by step, and only the speed may differ. In each round all run once, in random order; a
ratio is of one round.

Workloads: `mixed` has answers of 5 to 200 tokens, log-uniform; `questions` is easy-VQA as it is, about ten questions a
picture; `vocabulary` is the same with a head of 32,000 tokens; `jpeg` is `mixed` with pictures of 640 x 480 as JPEG
files, which a process of its own decodes; `lora` is `mixed` with LoRA of rank 16 on the language model, by peft on both
sides, and the projector whole.
"""

from __future__ import annotations

import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import easy_vqa
import numpy as np
import torch
import typer
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

import mminstruct
from mminstruct import formats
from mminstruct.config import validate
from mminstruct.data.dataset import ConversationDataset
from mminstruct.models import interop
from mminstruct.models.base_processor import BaseProcessor
from mminstruct.training.batching import batching
from mminstruct.training.config import Recipe, StageConfig
from mminstruct.training.run import train

BATCH, PACKED, WARM_UP, LEARNING_RATE, THREADS = 16, 40, 5, 1e-3, 2
Example = dict[str, str]
LORA: dict[str, Any] = {
    "train": ["connector"],
    "adapters": [{"kind": "lora", "part": "language_model", "rank": 16, "alpha": 32}],
}

# Jinja that writes what `vicuna_v1` with an empty system text writes.
TEMPLATE = (
    "{%- for message in messages -%}{%- if message['role'] == 'user' -%}{{- 'USER: ' -}}"
    "{%- if message['content'] is string -%}{{- '<image>\n' + message['content'] -}}{%- else -%}"
    "{%- for part in message['content'] -%}{{- '<image>\n' if part['type'] == 'image' else part['text'] -}}"
    "{%- endfor -%}{%- endif -%}{{- ' ASSISTANT:' -}}"
    "{%- elif message['content'] is string -%}{{- ' ' + message['content'] + '</s>' -}}"
    "{%- else -%}{{- ' ' + message['content'][0]['text'] + '</s>' -}}{%- endif -%}{%- endfor -%}"
)


def questions(count: int, seed: int = 0) -> list[Example]:
    """`count` questions with answers, about as few pictures as hold them."""
    texts, answers, pictures = easy_vqa.get_train_questions()
    paths = easy_vqa.get_train_image_paths()
    chosen = sorted(set(pictures))
    random.Random(seed).shuffle(chosen)
    rank = {picture: number for number, picture in enumerate(chosen)}
    found = sorted(zip(texts, answers, pictures, strict=True), key=lambda item: rank[item[2]])
    return [{"image": paths[picture], "question": q, "answer": a} for q, a, picture in found[:count]]


def lengthened(examples: list[Example], tokenizer: Any, shortest: int = 5, longest: int = 200) -> list[Example]:
    """The same with answers of so many tokens, the end token included, log-uniform."""
    rng = random.Random(0)
    words = sorted({word.strip("?.") for e in examples for word in f"{e['question']} {e['answer']}".split()})
    words = [word for word in words if len(tokenizer(" " + word, add_special_tokens=False)["input_ids"]) == 1]
    low, high = math.log(shortest), math.log(longest + 1)
    lengths = [min(longest, int(math.exp(rng.uniform(low, high)))) - 1 for _ in examples]
    return [
        {**example, "answer": " ".join(rng.choices(words, k=n))} for example, n in zip(examples, lengths, strict=True)
    ]


def make_tokenizer() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<unk>", "<image>"]
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts, answers, _ = easy_vqa.get_train_questions()
    bpe.train_from_iterator((f"USER: {q} ASSISTANT: {a}" for q, a in zip(texts, answers, strict=True)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=["<image>"],
        padding_side="right",
        model_max_length=2048,
        chat_template=TEMPLATE,
    )


def make_model(tokenizer: PreTrainedTokenizerFast, vocabulary: int, folder: Path, **language_model: int) -> None:
    """A random LLaVA in transformers' form in `folder/theirs`, and in ours in `folder/ours`.

    Args:
        language_model: sizes of Llama's config, instead of those below.
    """
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            image_size=64,
            patch_size=8,
            hidden_size=192,
            intermediate_size=768,
            num_hidden_layers=4,
            num_attention_heads=3,
        ),
        text_config=LlamaConfig(
            vocab_size=max(vocabulary, len(tokenizer)),
            **{"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 4}
            | language_model,
            max_position_embeddings=2048,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=64,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder / "theirs")
    LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder / "theirs")
    interop.import_checkpoint(folder / "theirs", folder / "ours", chat_template="vicuna_v1")


def llava_json(examples: list[Example]) -> str:
    return json.dumps(
        [
            {
                "id": str(number),
                "image": e["image"],
                "conversations": [
                    {"from": "human", "value": f"<image>\n{e['question']}"},
                    {"from": "gpt", "value": e["answer"]},
                ],
            }
            for number, e in enumerate(examples)
        ]
    )


def stage_config(settings: dict[str, Any], steps: int) -> dict[str, Any]:
    return {
        "name": "tune",
        "train": ["vision_encoder", "connector", "language_model"],
        "batch_size": BATCH,
        "steps": steps,
        "learning_rate": LEARNING_RATE,
        "warmup": 0.0,
        "chat_template": {"name": "vicuna_v1", "system": ""},
        **settings,
    }


def our_batches(examples: list[Example], folder: Path, settings: dict[str, Any], steps: int) -> list[list[Example]]:
    """What each step of ours sees."""
    stage = validate(StageConfig, stage_config(settings, steps), where="benchmark")
    model, processor = mminstruct.load(folder / "ours")
    assert isinstance(processor, BaseProcessor) and stage.chat_template is not None
    conversations = list(formats.read(folder / "data.json"))
    dataset = ConversationDataset(conversations, Path("/"), processor.with_template(stage.chat_template), 2048)
    plan = batching(stage, model, dataset, seed=0, processes=1).plan
    return [[examples[index] for batch in plan.step(step) for index in batch.indices] for step in range(steps)]


def ours(order: dict[str, Any]) -> None:
    """One run of ours, in this process; see `benchmarks/training_peer.py` for what is written."""
    torch.set_num_threads(THREADS)
    recipe = {
        "name": "speed",
        "summary": "A benchmark.",
        "model": order["model"],
        "log_every": 1,
        "workers": order["workers"],
        "stages": [stage_config(order["settings"], order["steps"])],
        "data": {"path": order["data"], "media_root": "/"},
    }
    with tempfile.TemporaryDirectory() as folder:
        train(validate(Recipe, recipe, where="benchmark"), Path(folder) / "run")
        lines = [json.loads(line) for line in (Path(folder) / "run/metrics.jsonl").read_text().splitlines()]
    status = Path("/proc/self/status").read_text().split()
    result = {
        "ends": [line["seconds"] for line in lines],
        "losses": [line["loss"] for line in lines],
        "waited": [line["data_wait_share"] for line in lines],
        "peak": int(status[status.index("VmHWM:") + 1]) * 1024 / 1e6,
    }
    Path(order["out"]).write_text(json.dumps(result))


def run_one(python: str, script: str, order: dict[str, Any], folder: Path) -> dict[str, Any]:
    path = folder / "order.json"
    path.write_text(json.dumps({**order, "out": str(folder / "result.json")}))
    done = subprocess.run([python, script, str(path)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{order} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


@dataclass(frozen=True)
class Run:
    """One row of a table: how it is started, and how many samples each of its steps has.

    Attributes:
        against: the row of transformers.Trainer with the same batches.
    """

    start: Callable[[], dict[str, Any]]
    sizes: list[int]
    against: str

    def speed(self, result: dict[str, Any]) -> float:
        """Samples a second behind the warm-up."""
        ends = result["ends"]
        return sum(self.sizes[WARM_UP:]) / (ends[-1] - ends[WARM_UP - 1])


def spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}}..{max(values):{form}})"


def as_photographs(examples: list[Example], folder: Path) -> list[Example]:
    """The same pictures at 640 x 480 with noise, as JPEG files of some hundred kilobytes."""
    (folder / "photographs").mkdir()
    made = {}
    for number, path in enumerate(sorted({example["image"] for example in examples})):
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB").resize((640, 480)), dtype=np.int16)
        noise = np.random.default_rng(number).integers(-16, 17, pixels.shape)
        made[path] = str(folder / "photographs" / f"{number}.jpg")
        Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)).save(made[path], quality=90)
    return [{**example, "image": made[example["image"]]} for example in examples]


def runs(name: str, steps: int, peer_python: str, folder: Path) -> dict[str, Run]:
    """The rows of a workload."""
    tokenizer = make_tokenizer()
    make_model(tokenizer, 32_000 if name == "vocabulary" else 0, folder)
    examples = questions(PACKED * (steps + 2))
    if name in ("mixed", "jpeg", "lora"):
        examples = lengthened(examples, tokenizer)
    if name == "jpeg":
        examples = as_photographs(examples, folder)
    (folder / "data.json").write_text(llava_json(examples))
    base = {"steps": steps, "learning_rate": LEARNING_RATE, "threads": THREADS, "workers": int(name == "jpeg")}
    base["lora"] = name == "lora"
    here = Path(__file__).parent

    def peer(kind: str, batches: list[list[Example]]) -> Callable[[], dict[str, Any]]:
        order = {**base, "peer": kind, "model": str(folder / "theirs"), "batches": batches}
        return lambda: run_one(peer_python, str(here / "training_peer.py"), order, folder)

    def own(settings: dict[str, Any]) -> Callable[[], dict[str, Any]]:
        order = {**base, "model": str(folder / "ours"), "data": str(folder / "data.json"), "settings": settings}
        return lambda: run_one(sys.executable, __file__, order, folder)

    alone: dict[str, Any] = {"share_prefix": False, **(LORA if name == "lora" else {})}
    batches = our_batches(examples, folder, alone, steps)
    sizes = [len(batch) for batch in batches]
    trainer = "transformers.Trainer"
    found = {
        trainer: Run(peer("transformers", batches), sizes, trainer),
        "ours, nothing shared": Run(own(alone), sizes, trainer),
    }
    if name == "mixed":
        found["TRL"] = Run(peer("trl", batches), sizes, trainer)
    if name == "questions":
        shared = {"pack_tokens": 768}
        batches = our_batches(examples, folder, shared, steps)
        sizes = [len(batch) for batch in batches]
        trainer = f"transformers.Trainer, batches of {statistics.median(sizes):.0f}"
        found[trainer] = Run(peer("transformers", batches), sizes, trainer)
        found[f"ours, prefixes shared in packs of {shared['pack_tokens']}"] = Run(own(shared), sizes, trainer)
    return found


def compare(name: str, steps: int, rounds: int, peer_python: str, folder: Path) -> None:
    rows = runs(name, steps, peer_python, folder)
    results: dict[str, list[dict[str, Any]]] = {kind: [] for kind in rows}
    rng = random.Random(0)
    for number in range(rounds):
        for kind in rng.sample(list(rows), len(rows)):
            results[kind].append(rows[kind].start())
            typer.echo(f"  {name} round {number} {kind}: {rows[kind].speed(results[kind][-1]):.1f} samples/s", err=True)
    typer.echo(report(name, rows, results))


def report(name: str, rows: dict[str, Run], results: dict[str, list[dict[str, Any]]]) -> str:
    speeds = {kind: [rows[kind].speed(result) for result in found] for kind, found in results.items()}
    lines = [
        f"### {name}",
        "",
        "| | samples/s | to transformers.Trainer | to TRL | loss of the first step, mean of the last five | peak MB |",
        "|---|---|---|---|---|---|",
    ]
    for kind, found in results.items():
        ratios = [
            spread([a / b for a, b in zip(speeds[kind], speeds[other], strict=True)], ".2f")
            if other in speeds and other != kind and rows[kind].sizes == rows[other].sizes
            else ""
            for other in (rows[kind].against, "TRL")
        ]
        losses = found[0]["losses"]
        peak = statistics.median(result["peak"] for result in found)
        lines.append(
            f"| {kind} | {spread(speeds[kind], '.1f')} | {ratios[0]} | {ratios[1]} | {losses[0]:.5f}, "
            f"{statistics.fmean(losses[-5:]):.5f} | {peak:.0f} |"
        )
    lines.append("")
    for kind, found in results.items():
        if "waited" in found[0]:
            waits = statistics.fmean(share for result in found for share in result["waited"][WARM_UP:])
            theirs = results[rows[kind].against][0]["losses"]
            largest = max(abs(a - b) for a, b in zip(found[0]["losses"], theirs, strict=True))
            lines.append(
                f"- {kind}: {waits:.2%} of the time waiting for data; a step's loss differs from "
                f"{rows[kind].against}'s by {largest:.1e} at most"
            )
    return "\n".join(lines) + "\n"


def main(
    order: str = typer.Argument("", hidden=True),
    peer_python: str = sys.executable,
    rounds: int = 10,
    steps: int = 25,
    only: str = "",
) -> None:
    if order:
        ours(json.loads(Path(order).read_text()))
        return
    for name in ("mixed", "questions", "vocabulary", "jpeg", "lora"):
        if only in ("", name):
            with tempfile.TemporaryDirectory() as folder:
                compare(name, steps, rounds, peer_python, Path(folder))


if __name__ == "__main__":
    typer.run(main)
