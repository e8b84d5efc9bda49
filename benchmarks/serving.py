"""How fast a chat goes on, and what is left of a server after two minutes of many clients.

    python benchmarks/serving.py latency --rounds 5
    python benchmarks/serving.py load --clients 32 --seconds 120

`latency`: a tiny random LLaVA (CLIP of 64 px and 64 patches, Llama of 256 x 4, 5.3 M parameters, float32), exported for
transformers. A chat asks twice about a picture. All tokens but those of whole words are left out of answers, the end
mark too: so answers have the same number of tokens everywhere, and are read in the second turn as they were written,
as those of a trained model are. In each round all run once, in random order, each in a process of its own; a ratio is
of one round. transformers' `generate` streams by `TextIteratorStreamer` and reads picture and chat anew at each turn
(`benchmarks/serving_peer.py`); its first token is taken where it reaches the streamer, ours where the asker has its
text. `tokens/s` is of what comes behind the first token of the second turn.

`load`: see `benchmarks/serving_load.py`.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import easy_vqa
import torch
import typer
from evaluation import without_system
from PIL import Image
from serving_load import load, serving
from training import make_model, make_tokenizer, questions, run_one, spread

from mminstruct.models import interop
from mminstruct.serving.chat import ChatSession
from mminstruct.serving.engine import Engine
from mminstruct.serving.models import Models
from mminstruct.serving.remote import RemoteEngine
from mminstruct.serving.settings import GenerationSettings

app = typer.Typer(add_completion=False)
app.command("load")(load)


def random_llava(folder: Path) -> list[int]:
    """A model that writes words and never ends, in `folder/ours` and, for the peer, in `folder/export`.

    Returns the tokens that it does not write; the peer has to be told them.
    """
    tokenizer = make_tokenizer()
    make_model(tokenizer, 0, folder)
    without_system(folder / "ours")
    interop.export_checkpoint(folder / "ours", folder / "export", "hf-llava")
    texts, answers, _ = easy_vqa.get_train_questions()
    words = {word.strip("?.") for text in (*texts, *answers) for word in text.split()}
    ids = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in words]
    whole = {found[0] for found in ids if len(found) == 1}
    never = [token for token in range(len(tokenizer)) if token not in whole]
    path = folder / "ours/generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "suppress_tokens": never}))
    return never


def chats(count: int) -> list[dict[str, Any]]:
    """Two questions each about pictures of their own."""
    found: dict[str, list[str]] = {}
    for one in questions(20 * count):
        found.setdefault(one["image"], []).append(one["question"])
    return [{"image": image, "questions": asked[:2]} for image, asked in found.items() if len(asked) > 1][:count]


def ours(order: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Each chat's turns as they went: seconds to the first text and to the last, tokens, text."""
    torch.set_num_threads(order["threads"])
    if order["peer"] == "in process":
        with Models.load([Path(order["model"])], "cpu") as models:
            return _chats(models[models.first], order)
    os.environ.setdefault("OPENAI_API_KEY", "any")
    folder, threads = Path(order["model"]), order["threads"]
    with serving(folder, threads) as server, RemoteEngine(f"{server.url}/v1", server.model) as far:
        return _chats(far, order)


def _chats(engine: Engine, order: dict[str, Any]) -> list[list[dict[str, Any]]]:
    settings = GenerationSettings(max_new_tokens=order["new"])
    return [_chat(engine, one, settings) for one in order["chats"]]


def _chat(engine: Engine, chat: dict[str, Any], settings: GenerationSettings) -> list[dict[str, Any]]:
    session = ChatSession(engine)
    turns = []
    for number, question in enumerate(chat["questions"]):
        start = time.perf_counter()
        pictures = [Image.open(chat["image"]).convert("RGB")] if number == 0 else []
        reply = session.ask(f"\n{question}" if pictures else question, pictures, settings)
        next(reply)
        first = time.perf_counter() - start
        for _ in reply:
            pass
        usage = reply.turn.usage
        assert usage is not None
        turns.append(
            {
                "first": first,
                "seconds": time.perf_counter() - start,
                "tokens": usage.new_tokens,
                "cached": usage.cached_tokens,
                "prompt": usage.prompt_tokens,
                "text": (reply.turn.answer or "").strip(),
            }
        )
    return turns


def table(rows: dict[str, list[list[list[dict[str, Any]]]]], peer: str, new: int) -> str:
    """The second turns: medians of a round's chats, then over rounds; `rows` by name, round, chat, turn."""

    def medians(name: str, read: Callable[[dict[str, Any]], float], turn: int) -> list[float]:
        return [statistics.median(read(chat[turn]) for chat in run) for run in rows[name]]

    def rate(turn: dict[str, Any]) -> float:
        return float((turn["tokens"] - 1) / (turn["seconds"] - turn["first"]))

    def first(turn: dict[str, Any]) -> float:
        return float(1000 * turn["first"])

    columns = ["", "first token of turn 1, ms", "of turn 2, ms", "theirs to it", "tokens/s of turn 2", "it to theirs"]
    lines = [f"| {' | '.join([*columns, 'equal answers'])} |", "|---|---|---|---|---|---|---|"]
    theirs = medians(peer, first, 1), medians(peer, rate, 1)
    for name, runs in rows.items():
        once, again, speed = medians(name, first, 0), medians(name, first, 1), medians(name, rate, 1)
        faster = [a / b for a, b in zip(theirs[0], again, strict=True)]
        more = [b / a for a, b in zip(theirs[1], speed, strict=True)]
        pairs = [
            (mine["text"], other["text"])
            for run, others in zip(runs, rows[peer], strict=True)
            for chat, chat_there in zip(run, others, strict=True)
            for mine, other in zip(chat, chat_there, strict=True)
        ]
        equal = f"{sum(mine == other for mine, other in pairs)} of {len(pairs)}"
        cells = [name, spread(once, ".1f"), spread(again, ".1f"), spread(faster, ".2f"), spread(speed, ".0f")]
        lines.append(f"| {' | '.join([*cells, spread(more, '.2f'), equal])} |")
    second = [chat[1] for runs in rows.values() for run in runs for chat in run]
    prompts = [one["prompt"] for one in second if "prompt" in one]
    cached = [one["cached"] for one in second if "cached" in one]
    kept = f"of them {statistics.mean(cached):.0f} kept from the first turn by ours"
    lines += ["", f"Prompts of turn 2 have {statistics.mean(prompts):.0f} tokens, {kept}; answers {new}."]
    return "\n".join(lines)


@app.command()
def latency(
    peer_python: Annotated[str, typer.Option(help="Python with torch, transformers and pillow.")] = sys.executable,
    rounds: int = 5,
    count: Annotated[int, typer.Option(help="Chats of a round; the first one warms up.")] = 9,
    new: Annotated[int, typer.Option(help="Tokens of an answer.")] = 150,
    threads: int = 2,
) -> None:
    """The second turn of a chat, against transformers' generate with a streamer."""
    here = Path(__file__).parent
    peer = "transformers' generate"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        never = random_llava(folder)
        order = {"chats": chats(count), "new": new, "threads": threads}
        export, own = str(folder / "export"), str(folder / "ours")
        starts = {
            "ours, in process": (sys.executable, __file__, {**order, "peer": "in process", "model": own}),
            "ours, by HTTP": (sys.executable, __file__, {**order, "peer": "http", "model": own}),
            peer: (peer_python, str(here / "serving_peer.py"), {**order, "model": export, "never": never}),
        }
        rows: dict[str, list[list[list[dict[str, Any]]]]] = {name: [] for name in starts}
        draw = random.Random(0)
        for number in range(rounds):
            for name in draw.sample(list(starts), len(starts)):
                python, script, given = starts[name]
                rows[name].append(run_one(python, script, given, folder)["chats"][1:])
                typer.echo(f"  round {number}: {name}", err=True)
    typer.echo(f"{rounds} rounds of {count - 1} chats; median (range) over rounds of a round's median\n")
    typer.echo(table(rows, peer, new))


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        given = json.loads(Path(sys.argv[1]).read_text())
        Path(given["out"]).write_text(json.dumps({"chats": ours(given)}))
    else:
        app()
