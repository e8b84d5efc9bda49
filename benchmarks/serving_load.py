"""Many clients of one server at once: whether each gets its own answer, how soon, and what is left behind.

    python benchmarks/serving_load.py --clients 32 --seconds 120           # or: python benchmarks/serving.py load

A real `mminstruct serve` process answers questions of text, one picture and two pictures. Each question has a seed and
a length of its own, so no two have one answer; each is asked alone first, which says what its answer is. Then all
clients ask, each its own questions, streaming or not; a quarter of the requests is to be left at a random moment, the
connection closed, though some are answered before. An answer that is another than before counts as mixed up (of one
that was left, what came of it), a request without an answer as lost. Two rounds do the same; the server's memory is
read after each, when `/metrics` says that nothing runs or waits. Exit code 1 where anything was lost or mixed up,
memory grew by more than 3 %, or something still runs.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import io
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import openai
import typer
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

KINDS = ("text", "one picture", "two pictures")
LEFT = 0.25  # of the requests
GROWTH = 0.03  # of the memory, from round to round
ASKED = 4  # questions of each client
WORDS = ("red", "blue", "green", "circle", "square", "triangle", "color", "shape", "is", "the", "a", "what", "where")


# --- the server -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A process that serves one model."""

    url: str
    model: str
    process: subprocess.Popen[str]

    @property
    def resident(self) -> float:
        """Memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text().split()
        return int(status[status.index("VmRSS:") + 1]) * 1024 / 1e6

    def gauges(self) -> dict[str, float]:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as reply:
            families = text_string_to_metric_families(reply.read().decode())
            wanted = ("mminstruct_running", "mminstruct_waiting")
            return {one.name: sum(s.value for s in one.samples) for one in families if one.name in wanted}


@contextlib.contextmanager
def serving(folder: Path, threads: int, waiting: int = 64) -> Iterator[Server]:
    """`mminstruct serve FOLDER` on a free port while the block runs."""
    command = [sys.executable, "-m", "mminstruct", "serve", str(folder), "--port", "0", "--max-waiting", str(waiting)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        try:
            assert process.stdout is not None
            lines = (re.search(r"(\S+) answers at (http://\S+)/v1", line) for line in process.stdout)
            found = next(filter(None, lines), None)
            if found is None:
                log.seek(0)
                raise SystemExit(f"the server did not start:\n{log.read()[-3000:]}")
            yield Server(found[2], found[1], process)
        finally:
            process.terminate()
            process.wait()


def random_nano(folder: Path) -> None:
    """A model whose answers are as long as they are asked for."""
    import torch

    import mminstruct
    from mminstruct.models import checkpoint

    torch.manual_seed(0)
    model, processor = mminstruct.create("nano")
    config = model.generation_config
    config.suppress_tokens = [*config.suppress_tokens, *config.eos_token_id]
    checkpoint.save(folder, model, processor)


# --- questions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    kind: str
    body: dict[str, Any]


def question(model: str, number: int) -> Question:
    draw = random.Random(number)
    kind = KINDS[number % len(KINDS)]
    pictures = [_picture(draw) for _ in range(KINDS.index(kind))]
    text = f"{' '.join(draw.choices(WORDS, k=draw.randint(4, 12)))} {number}?"
    words = {"type": "text", "text": text}
    parts = [*pictures[:1], words, *pictures[1:]]
    body = {
        "model": model,
        "messages": [{"role": "user", "content": parts if pictures else text}],
        "max_tokens": draw.randint(12, 48),
        "temperature": 1.0,
        "seed": number,
    }
    return Question(kind, body)


def _picture(draw: random.Random) -> dict[str, Any]:
    width, height = draw.randint(24, 96), draw.randint(24, 96)
    picture = Image.frombytes("RGB", (width, height), draw.randbytes(3 * width * height))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


# --- clients ----------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What came of a round's requests."""

    answered: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    left: int = 0
    lost: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    resident: float = 0.0
    gauges: dict[str, float] = field(default_factory=dict)


async def alone(server: Server, questions: list[Question]) -> list[str]:
    """Each question's answer, asked one after the other."""
    async with _client(server) as client:
        return [await _whole(client, one) for one in questions]


def _client(server: Server) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key="any", base_url=f"{server.url}/v1", max_retries=0, timeout=120)


async def _whole(client: openai.AsyncOpenAI, asked: Question) -> str:
    reply = await client.chat.completions.create(**asked.body)
    return reply.choices[0].message.content or ""


async def _streamed(client: openai.AsyncOpenAI, asked: Question, pieces: list[str], tally: Tally) -> None:
    start = time.perf_counter()
    stream = await client.chat.completions.create(**asked.body, stream=True)
    async with stream:
        async for chunk in stream:
            text = chunk.choices[0].delta.content if chunk.choices else None
            if text:
                if not pieces:
                    tally.first.append(time.perf_counter() - start)
                pieces.append(text)


async def _ask(
    client: openai.AsyncOpenAI, asked: Question, expected: str, streams: bool, leave: float | None, tally: Tally
) -> None:
    """One request, left after `leave` seconds where it is not over before."""
    pieces: list[str] = []

    async def whole() -> None:
        pieces.append(await _whole(client, asked))

    start = time.perf_counter()
    try:
        await asyncio.wait_for(_streamed(client, asked, pieces, tally) if streams else whole(), leave)
    except TimeoutError:
        tally.left += 1
        if not expected.startswith("".join(pieces)):
            tally.mixed.append(f"{''.join(pieces)!r} is no beginning of {expected!r}")
        return
    except openai.OpenAIError as error:
        tally.lost.append(f"{type(error).__name__}: {str(error)[:200]}")
        return
    if "".join(pieces) != expected:
        tally.mixed.append(f"{''.join(pieces)!r} for {expected!r}")
        return
    tally.answered[asked.kind] += 1
    tally.whole.append(time.perf_counter() - start)


async def _one_client(
    server: Server, number: int, bank: list[tuple[Question, str]], seconds: float, tally: Tally
) -> None:
    draw = random.Random(number)
    end = time.perf_counter() + seconds
    async with _client(server) as client:
        while time.perf_counter() < end:
            asked, expected = draw.choice(bank)
            usual = statistics.median(tally.whole[-50:]) if tally.whole else 1.0
            leave = draw.uniform(0, usual) if draw.random() < LEFT else None
            await _ask(client, asked, expected, draw.random() < 0.5, leave, tally)


async def one_round(server: Server, clients: int, bank: list[tuple[Question, str]], seconds: float) -> Tally:
    tally = Tally()
    share = [bank[number::clients] for number in range(clients)]
    await asyncio.gather(*(_one_client(server, n, share[n], seconds, tally) for n in range(clients)))
    for _ in range(100):
        tally.gauges = server.gauges()
        if not any(tally.gauges.values()):
            break
        await asyncio.sleep(0.1)
    tally.resident = server.resident
    return tally


# --- the command ------------------------------------------------------------------------------------------------------


def percentiles(values: list[float]) -> str:
    if len(values) < 2:
        return "none"
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return " / ".join(f"{1000 * cuts[place - 1]:,.0f}" for place in (50, 95, 99))


def table(tallies: list[Tally]) -> str:
    rounds = [f"round {number}" for number in range(1, len(tallies) + 1)]
    head = f"| | {' | '.join(rounds)} |\n{'|---' * (len(rounds) + 1)}|"
    rows = {
        **{f"answered: {kind}": [f"{one.answered[kind]:,}" for one in tallies] for kind in KINDS},
        "left on the way": [f"{one.left:,}" for one in tallies],
        "lost": [f"{len(one.lost):,}" for one in tallies],
        "mixed up": [f"{len(one.mixed):,}" for one in tallies],
        "first text, ms: 50 / 95 / 99 %": [percentiles(one.first) for one in tallies],
        "whole answer, ms: 50 / 95 / 99 %": [percentiles(one.whole) for one in tallies],
        "server's memory afterwards, MB": [f"{one.resident:,.1f}" for one in tallies],
        "running, waiting afterwards": [", ".join(f"{one.gauges[n]:g}" for n in sorted(one.gauges)) for one in tallies],
    }
    return "\n".join([head, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items())])


def load(
    clients: Annotated[int, typer.Option(help="Clients at once.")] = 32,
    seconds: Annotated[float, typer.Option(help="Of each round.")] = 120.0,
    model: Annotated[Path | None, typer.Option(help="Folder of a checkpoint; left out, a random nano.")] = None,
    threads: Annotated[int, typer.Option(help="Of the server.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Many clients, some of whom leave: none lost, none mixed up, memory flat."""
    with tempfile.TemporaryDirectory() as name:
        folder = model or Path(name) / "random/nano"
        if model is None:
            random_nano(folder)
        with serving(folder, threads, waiting=max(64, 2 * clients)) as server:
            questions = [question(server.model, number) for number in range(ASKED * clients)]
            answers = asyncio.run(alone(server, questions))
            before = server.resident
            bank = list(zip(questions, answers, strict=True))
            tallies = [asyncio.run(one_round(server, clients, bank, seconds)) for _ in range(2)]
    grown = tallies[1].resident / tallies[0].resident - 1
    bad = [line for one in tallies for line in (*one.lost, *one.mixed)]
    busy = any(value for one in tallies for value in one.gauges.values()) or not all(one.gauges for one in tallies)
    if as_json:
        figures = {"distinct": len(set(answers)), "questions": len(questions), "grown": grown}
        typer.echo(json.dumps({**figures, "rounds": [dataclasses.asdict(one) for one in tallies]}))
    else:
        typer.echo(
            f"{clients} clients, {seconds:g} s a round; {len(set(answers))} answers of {len(questions)} questions"
        )
        typer.echo(f"server's memory when all had been asked alone: {before:,.1f} MB\n")
        typer.echo(table(tallies))
    for line in bad[:20]:
        typer.echo(line, err=True)
    if bad or busy or grown > GROWTH:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(load)
