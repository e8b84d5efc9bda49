"""Speed of an evaluation against transformers' generate and lmms-eval: the same model, questions and answers.

    python benchmarks/evaluation.py --peer-python PEER/bin/python --lmms-python PEER_EVAL/bin/python

PEER has torch, torchvision, transformers and pillow; PEER_EVAL lmms-eval and decord. A tiny LLaVA (CLIP of 64 px and 64
patches, Llama of 256 x 4, 5.3 M parameters, float32) is trained for some steps on easy-VQA by this project and
exported; peers load the export. In each round all run once, in random order, each in a process of its own; a ratio is
of one round. `answers` is timed from the first picture to the last answer, loading left out; `whole` is the command,
from start to the report written, as a user waits for it: let Python write its bytecode (no PYTHONDONTWRITEBYTECODE) and
start each side once before, or each run compiles some 3,000 modules again.

`long` is a random model of 30 M parameters that writes long answers, where most of the time is spent on new tokens.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import easy_vqa
import torch
import typer
from training import llava_json, make_model, make_tokenizer, questions, run_one, spread, stage_config

import mminstruct
from mminstruct.config import validate
from mminstruct.evaluation.adapters.zoo import ZooAdapter
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol
from mminstruct.evaluation.runner import evaluate
from mminstruct.models import interop
from mminstruct.training.config import Recipe
from mminstruct.training.run import train

THREADS = 2
Question = dict[str, str]


class Questions(Benchmark):
    """The questions of an order, asked as the peers ask them."""

    name = "questions"
    summary = "Questions of an order."
    primary_scorer = "exact-match"
    protocols = (Protocol("peers", "benchmarks/evaluation_peer.py", max_new_tokens=1, prompt="\n{question}"),)

    def __init__(self, asked: list[Question], new: int) -> None:
        super().__init__()
        self.asked = asked
        self.protocol = Protocol("peers", "benchmarks/evaluation_peer.py", max_new_tokens=new, prompt="\n{question}")

    def items(self) -> Iterator[Item]:
        for number, one in enumerate(self.asked):
            yield Item(str(number), (Path(one["image"]),), one["question"], (one["answer"],), cluster=one["image"])


def asked(count: int) -> list[Question]:
    """The first questions of easy-VQA's test split, those about a picture one after the other, as they are."""
    texts, answers, pictures = easy_vqa.get_test_questions()
    paths = easy_vqa.get_test_image_paths()
    rows = zip(texts[:count], answers[:count], pictures[:count], strict=True)
    return [{"image": paths[picture], "question": text, "answer": answer} for text, answer, picture in rows]


def trained(folder: Path, steps: int) -> None:
    """A model that answers and stops, in `folder/model` and, for peers, in `folder/export`."""
    make_model(make_tokenizer(), 0, folder)
    without_system(folder / "ours")
    (folder / "data.json").write_text(llava_json(questions(160 * steps)))
    recipe = {
        "name": "speed",
        "summary": "A benchmark.",
        "model": str(folder / "ours"),
        "stages": [stage_config({"batch_size": 16, "pack_tokens": 768}, steps)],
        "data": {"path": str(folder / "data.json"), "media_root": "/"},
    }
    train(validate(Recipe, recipe, where="benchmark"), folder / "run")
    interop.export_checkpoint(folder / "run/model", folder / "export", "hf-llava")


def without_system(model: Path) -> None:
    """Let a model's chat template have no system text, as the peers ask."""
    settings = json.loads((model / "mminstruct.json").read_text())
    settings["chat_template"]["system"] = ""
    (model / "mminstruct.json").write_text(json.dumps(settings))


def random_30m(folder: Path) -> None:
    """A random model of 30 M parameters, in `folder/big/ours` and `folder/long-export`."""
    sizes = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8, "num_attention_heads": 8}
    (folder / "big").mkdir()
    make_model(make_tokenizer(), 0, folder / "big", **sizes)
    without_system(folder / "big/ours")
    interop.export_checkpoint(folder / "big/ours", folder / "long-export", "hf-llava")


def ours(order: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(THREADS)
    adapter = ZooAdapter(*mminstruct.load(order["model"]))
    evaluate(adapter, Questions(order["questions"][:32], order["new"]))  # warm up
    found = evaluate(adapter, Questions(order["questions"], order["new"]))
    return {"answers": found.texts, "seconds": found.seconds}


def whole(order: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The command on a file of questions."""
    path = folder / "questions.jsonl"
    lines = [
        {"id": number, "image": one["image"], "question": one["question"], "answers": [one["answer"]]}
        for number, one in enumerate(order["questions"])
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = folder / f"report-{time.time_ns()}"
    command = [sys.executable, "-m", "mminstruct", "eval", "vqa", f"file={path}", 'prompt="{question}"']
    command += ["--model", order["model"], "--out", str(out), "--no-blank", "--no-reuse", "--check", "0"]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    answers = [json.loads(line)["prediction"] for line in (out / "vqa/predictions.jsonl").read_text().splitlines()]
    return {"answers": answers, "seconds": seconds}


def compare(title: str, rows: dict[str, Callable[[], dict[str, Any]]], count: int, rounds: int, first: str) -> None:
    """All rows once a round, in random order; the table goes to stdout."""
    speeds: dict[str, list[float]] = {name: [] for name in rows}
    answers: dict[str, list[str]] = {}
    draw = random.Random(0)
    for number in range(rounds):
        for name in draw.sample(list(rows), len(rows)):
            result = rows[name]()
            speeds[name].append(count / result["seconds"])
            answers[name] = result["answers"]
            typer.echo(f"  {title} round {number} {name}: {speeds[name][-1]:.1f} questions/s", err=True)
    lines = [
        f"### {title}: {count:,} questions",
        "",
        "| | questions/s | ours to it | answers equal to ours |",
        "|---|---|---|---|",
    ]
    for name, found in speeds.items():
        ratios = [a / b for a, b in zip(speeds[first], found, strict=True)]
        equal = sum(a == b for a, b in zip(answers[name], answers[first], strict=True))
        lines.append(f"| {name} | {spread(found, '.1f')} | {spread(ratios, '.2f')} | {equal:,} |")
    length = statistics.mean(map(len, answers[first]))
    typer.echo("\n".join([*lines, "", f"Answers have {length:.0f} characters on average.", ""]))


def main(
    peer_python: Annotated[str, typer.Option(help="Python with torch, transformers and pillow.")],
    lmms_python: Annotated[
        str | None, typer.Option(help="Python with lmms-eval; without it that row is left out.")
    ] = None,
    rounds: int = 3,
    count: Annotated[int, typer.Option(help="Questions of the trained model.")] = 2000,
    steps: Annotated[int, typer.Option(help="Of its training.")] = 120,
    long_count: Annotated[int, typer.Option(help="Questions of the random model.")] = 64,
    long_new: Annotated[int, typer.Option(help="New tokens of its answers.")] = 300,
    part: Annotated[
        list[str] | None, typer.Option(help="answers, whole or long; may be repeated. Left out, all.")
    ] = None,
) -> None:
    parts = part or ["answers", "whole", "long"]
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trained(folder, steps)
        random_30m(folder)

        def peer(python: str, kind: str, model: str, chosen: list[Question], new: int, batch: int = 1) -> Any:
            order = {"peer": kind, "model": str(folder / model), "questions": chosen, "new": new, "batch": batch}
            order["threads"] = THREADS
            return lambda: run_one(python, str(here / "evaluation_peer.py"), order, folder)

        def own(model: str, chosen: list[Question], new: int) -> Any:
            order = {"peer": "ours", "model": str(folder / model), "questions": chosen, "new": new}
            return lambda: run_one(sys.executable, __file__, order, folder)

        chosen = asked(count)
        if "answers" in parts:
            rows = {
                "ours": own("run/model", chosen, 8),
                "generate, one by one": peer(peer_python, "generate", "export", chosen, 8),
                "generate, 16 left-padded": peer(peer_python, "generate", "export", chosen, 8, 16),
            }
            compare("answers", rows, count, rounds, "ours")
        if "whole" in parts and lmms_python:
            order = {"model": str(folder / "run/model"), "questions": chosen, "new": 8}
            rows = {
                "mminstruct eval": lambda: whole(order, folder),
                "lmms-eval llava_hf": peer(lmms_python, "lmms-eval", "export", chosen, 8),
            }
            compare("whole", rows, count, rounds, "mminstruct eval")
        if "long" in parts:
            few = asked(long_count)
            rows = {
                "ours": own("big/ours", few, long_new),
                "generate, 16 left-padded": peer(peer_python, "generate", "long-export", few, long_new, 16),
            }
            compare("long", rows, long_count, rounds, "ours")


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        given = json.loads(Path(sys.argv[1]).read_text())
        Path(given["out"]).write_text(json.dumps(ours(given)))
    else:
        typer.run(main)
