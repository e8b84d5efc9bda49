"""Builders that ask a model, against a real server: how many replies can be read, what is kept, what it costs in time.

    python benchmarks/real_server.py --base-url http://127.0.0.1:8080/v1 --model NAME --items 5
    python benchmarks/real_server.py --folder MODEL --items 3            # a model of transformers in this process

One line a builder, as Markdown; below, what was wrong with replies and why items or conversations were left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from mminstruct.building import BuildConfig, load_builder, run
from mminstruct.building.clients import Call, LanguageModelClient, LocalClient, OpenAICompatibleClient
from mminstruct.building.request import Completion
from mminstruct.data_builders.worlds import scene_facts
from mminstruct.data_builders.worlds.scenes import scene
from mminstruct.errors import MminstructError, ReplyError, ServerError
from mminstruct.files import read_jsonl

# Builder and options by label; {folder} has pictures with captions in MMInstruct's form.
TEXT = {
    "llava": ("llava", []),
    "llavar": ("llavar", []),
    "vlr-if": ("vlr-if", ["count=6"]),
    "syphus, video": ("syphus", []),
    "syphus, scene": ("syphus", ["preset=scene"]),
    "mm-instruct-expand": ("mm-instruct-expand", []),
    "mm-instruct-bank": ("mm-instruct-bank", []),
    "mm-instruct": ("mm-instruct", []),
    "textbind": ("textbind", ["pictures=60"]),
    "llava-plus": ("llava-plus", []),
    "mminstruct-data": (
        "mminstruct-data",
        ["source={folder}/captions.jsonl", "domain=shapes", "kinds=[judgement,choice,long,short]"],
    ),
}
SEEING = {
    "captioning": ("captioning", ["kinds=[brief,detailed,words]"]),
    "videosavi": ("videosavi", ["frames=2", "frame_side=112", "questions=1"]),
    "videosavi, candidates": ("videosavi", ["variant=candidates", "frames=2", "frame_side=112", "questions=1"]),
}


@dataclass
class Counted:
    """What happened between a builder and its server."""

    requests: int = 0
    repairs: int = 0
    cut: int = 0
    first_read: int = 0
    repairs_read: int = 0
    read: int = 0
    written: int = 0
    seconds: float = 0.0
    problems: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)


class Counting(LanguageModelClient):
    """Another client, with a count of what passes."""

    def __init__(self, inner: LanguageModelClient) -> None:
        self.inner = inner
        self.backend, self.model = inner.backend, inner.model
        self.counted = Counted()

    def complete(self, call: Call) -> Completion:
        counted = self.counted
        counted.requests += 1
        repair = len(call.request.messages) > len(call.prompt.messages(call.facts))
        if repair:
            counted.repairs += 1
            problem = call.request.messages[-1].text.removeprefix("Your reply cannot be used: ").partition(". Reply")[0]
            counted.problems[f"{call.prompt.name}: {problem}"] += 1
        start = time.perf_counter()
        try:
            reply = self.inner.complete(call)
        except ServerError as error:
            counted.errors[str(error)] += 1
            raise
        finally:
            counted.seconds += time.perf_counter() - start
        read, written = reply.tokens
        counted.read, counted.written = counted.read + read, counted.written + written
        counted.cut += reply.finish == "length"
        readable = _readable(reply, call)
        counted.repairs_read += repair and readable
        counted.first_read += readable and not repair
        return reply


def _readable(reply: Completion, call: Call) -> bool:
    """As the engine sees it, but for JSON that was cut off behind its end."""
    try:
        call.prompt.parse(reply.text, call.facts)
    except ReplyError:
        return False
    return reply.finish != "length" or call.prompt.schema(call.facts) is not None


def captions(folder: Path, items: int) -> None:
    """Pictures of scenes with captions, in MMInstruct's form: a model that cannot see can ask questions about them."""
    rows = []
    for number in range(items):
        drawn = scene(0, number)
        drawn.draw().save(folder / f"{number}.png")
        row = {"image_path": f"{number}.png", "gpt4v_caption_interface": scene_facts.caption(drawn)}
        rows.append(json.dumps(row))
    (folder / "captions.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


def one(
    label: str, name: str, options: list[str], client: Counting, out: Path, config: BuildConfig, items: int
) -> None:
    client.counted = counted = Counted()
    kept, dropped, failed, left_out = 0, Counter[str](), 0, Counter[str]()
    start = time.perf_counter()
    try:
        built = run(load_builder(name, options), out, config, client=client, limit=items)
        kept = built.conversations
        note = built.builder or {}
        dropped.update(note.get("dropped", {}))
        failed = note.get("failed", 0)
        if failed:
            left_out.update(letter["problem"] for _, letter in read_jsonl(out / "dead-letters.jsonl"))
    except MminstructError as error:
        left_out[f"the build stopped: {error}"] += 1
    took = time.perf_counter() - start
    rate = counted.written / counted.seconds if counted.seconds else 0.0
    sys.stdout.write(
        f"| {label} | {counted.first_read} of {counted.requests - counted.repairs} | "
        f"{counted.repairs_read} of {counted.repairs} | {counted.cut} | {kept} | {sum(dropped.values())} | "
        f"{failed} | {counted.read:,} | {counted.written:,} | {took:.0f} | {rate:.0f} |\n"
    )
    for kind, found in (
        ("reply", counted.problems),
        ("server", counted.errors),
        ("dropped", dropped),
        ("item", left_out),
    ):
        for text, count in found.most_common():
            sys.stderr.write(f"{label}: {kind}: {count} x {text}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", help="of the server, such as http://127.0.0.1:8080/v1")
    parser.add_argument("--model", default="local", help="its name at the server")
    parser.add_argument("--folder", type=Path, help="a model of transformers, instead of a server")
    parser.add_argument("--items", type=int, default=5, help="of each builder")
    parser.add_argument("--max-reply-tokens", type=int, default=400)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=600.0)
    parser.add_argument("--out", type=Path, help="keep what was built here")
    parser.add_argument("--seeing", action="store_true", help="the builders that show pictures, instead of the others")
    parser.add_argument("builders", nargs="*", help="labels of the table; left out, all")
    arguments = parser.parse_args()
    os.environ.setdefault("OPENAI_API_KEY", "any")
    client: LanguageModelClient
    if arguments.folder is not None:
        client = LocalClient(arguments.folder)
    elif arguments.base_url is not None:
        client = OpenAICompatibleClient(arguments.model, [arguments.base_url], timeout=arguments.timeout)
    else:
        parser.error("give --base-url, or --folder")
    parameters = {"max_tokens": arguments.max_reply_tokens, "seed": arguments.seed}
    if arguments.temperature is not None:
        parameters["temperature"] = arguments.temperature
    config = BuildConfig.model_validate(
        {
            "on_error": "skip",
            "max_errors": 1000,
            # A server that refuses is not waited for: this is about what it answers.
            "asking": {"parameters": parameters, "server_attempts": 2, "first_wait": 0.1},
        }
    )
    head = ["builder", "first replies read", "repairs read", "cut off", "kept", "dropped", "items failed"]
    head += ["tokens read", "written", "seconds"]
    sys.stdout.write(f"| {' | '.join([*head, 'tokens/s'])} |\n|{'---|' * (len(head) + 1)}\n")
    sys.stdout.flush()
    chosen = SEEING if arguments.seeing else TEXT
    counting = Counting(client)
    with tempfile.TemporaryDirectory() as scratch:
        captions(Path(scratch), arguments.items)
        root = arguments.out or Path(scratch) / "out"
        for label, (name, options) in chosen.items():
            if arguments.builders and label not in arguments.builders:
                continue
            filled = [option.format(folder=scratch) for option in options]
            one(label, name, filled, counting, root / label.replace(", ", "-"), config, arguments.items)
    client.close()


if __name__ == "__main__":
    main()
