"""Building: conversations a second of builders that ask no model, memory at many items, a chat step beside a peer's.

    python benchmarks/building.py rate vision-flan mavis ...                   # each in a process of its own
    python benchmarks/building.py memory mavis --items 100000
    python benchmarks/building.py chat --peer-python PEER/bin/python          # PEER has distilabel[openai]

`chat` asks a server on loopback the same questions through our engine, client and log of replies, and
through distilabel's pipeline (OpenAI client, `TextGeneration`, its cache on), each run in a new process and a new
folder, in random order. The server answers after a fixed time, many at once, and counts what it was asked.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mminstruct.building import BuildConfig, Builder, Job, load_builder, run
from mminstruct.building.clients import OpenAICompatibleClient
from mminstruct.building.prompt import Prompt
from mminstruct.config import Config
from mminstruct.conversation import Conversation, Message, message

MODEL = "benchmark"
SYSTEM = "You write one question and one answer about what is described. " * 8


@dataclass(frozen=True)
class Fact:
    id: str
    text: str


def facts(count: int) -> Iterator[Fact]:
    """Descriptions of about 400 characters, no two alike."""
    words = [
        "red",
        "blue",
        "dog",
        "street",
        "two",
        "people",
        "stand",
        "near",
        "old",
        "house",
        "a",
        "the",
        "under",
        "tree",
    ]
    for number in range(count):
        chance = random.Random(number)
        yield Fact(str(number), f"{number}: " + " ".join(chance.choices(words, k=80)))


class Ask(Prompt[Fact, str]):
    name = "benchmark/ask"

    def messages(self, facts: Fact) -> list[Message]:
        return [message("system", SYSTEM), message("user", facts.text)]

    def parse(self, reply: str, facts: Fact) -> str:
        return reply

    def template(self, facts: Fact, rng: random.Random) -> str:
        return facts.text


class Asking(Builder[Fact]):
    name = "benchmark"
    version = "1"
    summary = "Asks one question an item."
    licence = "CC0-1.0"
    asks = True

    class Options(Config):
        count: int = 1000

    options: Options

    def items(self) -> Iterator[Fact]:
        return facts(self.options.count)

    def make(self, item: Fact, job: Job) -> Iterator[Conversation]:
        answer = job.ask(Ask(), item)
        yield Conversation(
            id=item.id,
            messages=[message("user", item.text), message("assistant", answer.value)],
            provenance=job.provenance([], answer),
        )


def serve(delay: float) -> None:
    """Answers each question after `delay` seconds, on a port that it prints; `/count` says what it was asked."""
    import asyncio

    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    asked = {"requests": 0, "now": 0, "most": 0}

    async def answer(request: Request) -> JSONResponse:
        body = await request.json()
        asked["requests"] += 1
        asked["now"] += 1
        asked["most"] = max(asked["most"], asked["now"])
        await asyncio.sleep(delay)
        asked["now"] -= 1
        content = f"Question: what is it? Answer: {body['messages'][-1]['content'][:60]}"
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 200, "completion_tokens": 20, "total_tokens": 220}
        head = {"id": "x", "object": "chat.completion", "created": 1, "model": MODEL}
        return JSONResponse(head | {"choices": [choice], "usage": usage})

    async def count(request: Request) -> JSONResponse:
        seen = dict(asked)
        asked.update(requests=0, most=0)
        return JSONResponse(seen)

    routes = [Route("/v1/chat/completions", answer, methods=["POST"]), Route("/count", count)]
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), port=0, log_level="error", access_log=False))

    async def main() -> None:
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        sys.stdout.write(f"{server.servers[0].sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()
        await task

    asyncio.run(main())


def ours(url: str, count: int, workers: int, folder: Path) -> None:
    client = OpenAICompatibleClient(MODEL, [f"{url}/v1"])
    run(Asking(Asking.Options(count=count)), folder / "set", BuildConfig(workers=workers), client=client, resume=True)
    client.close()


PEER = """
import json, sys
from pathlib import Path
from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

rows = json.loads(Path(sys.argv[1]).read_text())
url, model, batch, folder = sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
with Pipeline(name="benchmark", cache_dir=folder) as pipeline:
    load = LoadDataFromDicts(data=rows, batch_size=batch)
    ask = TextGeneration(
        llm=OpenAILLM(model=model, base_url=url + "/v1", api_key="any"),
        input_batch_size=batch,
    )
    load >> ask
if __name__ == "__main__":
    out = pipeline.run(use_cache=True)
    made = out["default"]["train"]
    assert len(made) == len(rows) and all(made["generation"]), len(made)
"""


def peer(python: str, url: str, count: int, workers: int, folder: Path) -> None:
    script, rows = folder / "peer.py", folder / "rows.json"
    script.write_text(PEER)
    rows.write_text(json.dumps([{"system_prompt": SYSTEM, "instruction": fact.text} for fact in facts(count)]))
    command = [python, str(script), str(rows), url, MODEL, str(workers), str(folder / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])


def chat(arguments: argparse.Namespace) -> None:
    import urllib.request

    def get(url: str) -> dict[str, Any]:
        with urllib.request.urlopen(url) as stream:
            return json.loads(stream.read())  # type: ignore[no-any-return]

    os.environ["OPENAI_API_KEY"] = "any"
    command = [sys.executable, __file__, "serve", "--delay", str(arguments.delay)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    url = f"http://127.0.0.1:{int(server.stdout.readline())}"
    seconds: dict[str, list[float]] = {}
    try:
        for number in range(arguments.rounds):
            runs = [("ours", arguments.workers), *(("distilabel", size) for size in arguments.batches)]
            random.Random(number).shuffle(runs)
            for who, size in runs:
                with tempfile.TemporaryDirectory() as name:
                    start = time.perf_counter()
                    if who == "ours":
                        command = [sys.executable, __file__, "ours", "--url", url, "--items", str(arguments.items)]
                        subprocess.run([*command, "--workers", str(size), "--folder", name], check=True)
                    else:
                        peer(arguments.peer_python, url, arguments.items, size, Path(name))
                    took = time.perf_counter() - start
                seen = get(f"{url}/count")
                assert seen["requests"] == arguments.items, seen
                seconds.setdefault(f"{who}, {size} at once", []).append(took)
                sys.stdout.write(f"{who} {size}: {took:.1f} s, at most {seen['most']} at once\n")
                sys.stdout.flush()
    finally:
        server.terminate()
    sys.stdout.write("\n| | seconds | requests/s |\n|---|---|---|\n")
    for label, times in seconds.items():
        middle = statistics.median(times)
        spread = f"{min(times):.1f}..{max(times):.1f}"
        sys.stdout.write(f"| {label} | {middle:.1f} ({spread}) | {arguments.items / middle:.0f} |\n")


def rate(name: str, options: list[str], items: int, folder: Path) -> None:
    """One line: conversations a second of processor time and of wall time, behind a build that loads everything."""
    run(load_builder(name, options), folder / "warm", limit=3)
    wall, cpu = time.perf_counter(), time.process_time()
    manifest = run(load_builder(name, options), folder / "set", limit=items)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    count = manifest.conversations
    sys.stdout.write(
        f"| {name} | {items:,} | {count:,} | {manifest.images:,} | {count / cpu:,.0f} | {count / wall:,.0f} |\n"
    )


def memory(name: str, options: list[str], items: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        manifest = run(load_builder(name, options), Path(folder) / "set", limit=items)
        took = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    sys.stdout.write(
        f"{name}: {items:,} items, {manifest.conversations:,} conversations, {peak:.0f} MB, {took:.0f} s\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rate", "memory", "chat", "serve", "ours", "one"])
    parser.add_argument("builders", nargs="*", help="NAME, or NAME:KEY=VALUE:...")
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--batches", type=int, nargs="+", default=[50, 500])
    parser.add_argument("--delay", type=float, default=0.1)
    parser.add_argument("--peer-python")
    parser.add_argument("--url")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "serve":
        serve(arguments.delay)
    elif arguments.what == "ours":
        ours(arguments.url, arguments.items, arguments.workers, arguments.folder)
    elif arguments.what == "chat":
        chat(arguments)
    elif arguments.what == "rate":
        sys.stdout.write(
            "| builder | items | conversations | pictures | a second of CPU | a second |\n|---|---|---|---|---|---|\n"
        )
        sys.stdout.flush()
        # Nothing is deleted until the end: for half a minute ext4 looks at each place of a deleted file before it makes
        # a new one, which took .7 ms a picture.
        with tempfile.TemporaryDirectory() as folder:
            for number, name in enumerate(arguments.builders):
                command = [sys.executable, __file__, "one", name, "--items", str(arguments.items)]
                command += ["--folder", f"{folder}/{number}"]
                subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    else:
        name, *options = arguments.builders[0].split(":")
        if arguments.what == "one":
            rate(name, options, arguments.items, arguments.folder)
        else:
            memory(name, options, arguments.items)


if __name__ == "__main__":
    main()
