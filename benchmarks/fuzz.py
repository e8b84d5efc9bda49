"""Mutated files, URLs, archives and requests against what takes them in: what breaks, what is slow, what takes memory.

    python benchmarks/fuzz.py                               # all 200,000 inputs, as a table
    python benchmarks/fuzz.py --only pictures --share 0.01

An input is answered by a result or by a `MminstructError` of one line; anything else is a crash, and is listed with the
number that makes it again. Seeds and mutations are in `fuzz_inputs.py`. Every input has a random generator of its own,
of its target's name and its number, so it is the same whatever ran before it.

Videos go two ways: some through the gate, which starts a process for each, and many through the function that such a
process runs (`decode` of `mminstruct.media.decode`), in one process under the same limits of memory and files. Where a
decoder in C brings that process down, another takes over, and the input counts as `decoder died`: the gate makes a
`MediaError` of that.

`slowest` is the time of one input by the clock and in processor time, of this process and of those that it waits for.
Exits with 1 after a crash, an input over 2 s of processor time, or a peak over the limit of memory.
"""

from __future__ import annotations

import io
import json
import random
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any

import fuzz_inputs
import typer
from PIL import Image

from mminstruct.errors import MediaError, MminstructError
from mminstruct.media import FrameSampling, Gate, GateLimits, VideoLimits
from mminstruct.media.archive import ArchiveLimits, extract
from mminstruct.media.decode import decode, give_up_rights, load_decoder
from mminstruct.media.fetch import Fetcher

SLOWEST = 2.0  # seconds of processor time for one input
MEMORY = 1_500  # MB that this process may take at its peak, and each that it starts
LIMITS = GateLimits()
METHODS = ("uniform", "midpoints", "fps", "stride", "keyframes", "scenes")


class Died(Exception):  # noqa: N818 - it is counted, and no error of this file
    """The process that decodes videos ended, or had to be stopped."""


@dataclass(frozen=True)
class Target:
    """Something that takes inputs in.

    Attributes:
        inputs: how many of the whole run.
        make: an input, of a random generator.
        start: gives, in a `with`, what takes one input; it raises `MminstructError` where it refuses one, and returns
            the processor time of a process that it has kept, where there is one.
    """

    name: str
    inputs: int
    make: Callable[[random.Random], Any]
    start: Callable[[], Any]


@dataclass
class Result:
    counts: Counter[str] = field(default_factory=Counter)
    clock: float = 0.0
    processor: float = 0.0
    slowest: int = 0
    crashes: list[str] = field(default_factory=list)


# --- targets ----------------------------------------------------------------------------------------------------------


@contextmanager
def pictures_through_the_gate() -> Iterator[Callable[[bytes], object]]:
    gate = Gate(LIMITS)

    def take(data: bytes) -> None:
        with gate.request() as request:
            picture = request.open_bytes("image", data)
        assert isinstance(picture, Image.Image) and picture.mode == "RGB" and not picture.info

    yield take


@contextmanager
def addresses_through_the_gate() -> Iterator[Callable[[str], object]]:
    """Every host's address is this machine's, so whatever is not refused is a hole."""
    gate = Gate(LIMITS, Fetcher(["images.example.org", "*.example.org:22"], resolver=lambda host, port: ["127.0.0.1"]))

    def take(url: str) -> None:
        with gate.request() as request:
            request.open("image", url)
        if not url.lower().startswith("data:"):
            raise AssertionError("an address was opened")

    yield take


def _sampling(data: bytes) -> FrameSampling:
    return FrameSampling.model_validate({"method": METHODS[sum(data[:4096]) % len(METHODS)], "limit": 4})


@contextmanager
def videos_through_the_gate() -> Iterator[Callable[[bytes], object]]:
    gate = Gate(LIMITS)

    def take(data: bytes) -> None:
        with gate.request() as request:
            request.open_bytes("video", data, _sampling(data))

    yield take


@contextmanager
def videos_in_one_process() -> Iterator[Callable[[bytes], float]]:
    def started() -> subprocess.Popen[bytes]:
        command = [sys.executable, __file__, "--decoder"]
        new = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert new.stdout is not None
        new.stdout.readline()  # it is ready
        return new

    process = started()

    def take(data: bytes) -> float:
        nonlocal process
        assert process.stdin is not None and process.stdout is not None
        timer = threading.Timer(LIMITS.seconds, process.kill)
        timer.start()
        try:
            process.stdin.write(struct.pack("<I", len(data)) + data)
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            timer.cancel()
        if not line:
            process.kill()
            process.wait()
            process = started()
            raise Died
        said = json.loads(line)
        if "refused" in said:
            raise MediaError(said["refused"])
        if "crashed" in said:
            raise AssertionError(said["crashed"])
        return float(said["processor"])

    try:
        yield take
    finally:
        process.communicate()


def decode_what_comes(stream: IO[bytes], out: IO[bytes]) -> None:
    """The other end of `videos_in_one_process`."""
    limits = asdict(
        VideoLimits(
            max_bytes=LIMITS.max_bytes,
            max_frames=LIMITS.max_walked,
            max_pixels=LIMITS.max_pixels,
            max_total_pixels=LIMITS.max_total_pixels,
            max_duration=LIMITS.max_duration,
        )
    )
    load_decoder()
    give_up_rights(LIMITS.memory, 86_400)
    out.write(b"ready\n")
    out.flush()
    while head := stream.read(4):
        data = stream.read(struct.unpack("<I", head)[0])
        started = time.process_time()
        said: dict[str, Any] = {}
        try:
            decode(io.BytesIO(data), {"sampling": _sampling(data).model_dump(), "limits": limits}, io.BytesIO())
        except MediaError as error:
            said = {"refused": str(error)}
        except MemoryError:
            said = {"refused": "it needs too much memory"}
        except Exception:  # noqa: BLE001 - what is looked for
            said = {"crashed": traceback.format_exc()}
        said["processor"] = time.process_time() - started
        out.write(json.dumps(said).encode() + b"\n")
        out.flush()


@contextmanager
def archives_unpacked() -> Iterator[Callable[[bytes], object]]:
    limits = ArchiveLimits(max_members=100, max_bytes=10_000_000)
    with tempfile.TemporaryDirectory() as name:
        room = Path(name) / "room"
        room.mkdir()

        def take(data: bytes) -> None:
            archive = Path(name) / "archive"
            archive.write_bytes(data)
            try:
                extract(archive, room / "out", limits)
            finally:
                shutil.rmtree(room / "out", ignore_errors=True)
                left = [*room.iterdir(), *(path for path in Path(name).iterdir() if path not in (archive, room))]
                assert not left, f"something was left outside: {left}"

        yield take


@contextmanager
def requests_of_the_api() -> Iterator[Callable[[bytes], object]]:
    import torch

    import mminstruct
    from mminstruct.serving.api import messages, schema
    from mminstruct.serving.structured import Grammars

    gate = Gate(LIMITS)
    tokenizer = mminstruct.create("nano")[1].tokenizer
    grammars = Grammars(tokenizer, [tokenizer.eos_token_id], [])
    logits = torch.randn(len(tokenizer), generator=torch.Generator().manual_seed(0))

    def take(body: bytes) -> None:
        request, _ = schema.parse(body)
        kept = messages.settings(request, 4096, 60.0).response_schema
        if kept is not None:  # and the beginning of an answer
            constraint = grammars.constraint(kept)
            for turn in range(20):
                if constraint.over:
                    break
                constraint.took(int(constraint.allowed(logits.roll(turn)).argmax()))
        with gate.request() as opened:
            messages.question(request, opened.open)

    yield take


def _picture(rng: random.Random) -> bytes:
    return fuzz_inputs.forged_png(rng) if rng.random() < 0.05 else fuzz_inputs.mutated(rng, fuzz_inputs.pictures())


def _address(rng: random.Random) -> str:
    return fuzz_inputs.web_address(rng) if rng.random() < 0.3 else fuzz_inputs.data_uri(rng)


TARGETS = (
    Target("pictures", 110_000, _picture, pictures_through_the_gate),
    Target("addresses", 30_000, _address, addresses_through_the_gate),
    Target("videos", 100, lambda rng: fuzz_inputs.mutated(rng, fuzz_inputs.videos()), videos_through_the_gate),
    Target("decoder", 14_900, lambda rng: fuzz_inputs.mutated(rng, fuzz_inputs.videos()), videos_in_one_process),
    Target("archives", 5_000, lambda rng: fuzz_inputs.mutated(rng, fuzz_inputs.archives()), archives_unpacked),
    Target("requests", 40_000, fuzz_inputs.request_body, requests_of_the_api),
)


# --- the run ----------------------------------------------------------------------------------------------------------


def _processor() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _peak(who: int = resource.RUSAGE_SELF) -> float:
    return resource.getrusage(who).ru_maxrss * 1024 / 1e6


def run(target: Target, count: int) -> Result:
    result = Result()
    with target.start() as take:
        for number in range(count):
            given = target.make(random.Random(f"{target.name}/{number}"))
            clock, processor, others = time.perf_counter(), _processor(), 0.0
            try:
                others = take(given) or 0.0
                result.counts["opened"] += 1
            except MminstructError as error:
                one_line = "\n" not in str(error) and len(str(error)) < 1000
                result.counts["refused" if one_line else "crashed"] += 1
                if not one_line:
                    result.crashes.append(f"{target.name}/{number}: {error!r}")
            except Died:
                result.counts["decoder died"] += 1
            except Exception:  # noqa: BLE001 - what is looked for
                result.counts["crashed"] += 1
                result.crashes.append(f"{target.name}/{number}: {traceback.format_exc()}")
            clock, processor = time.perf_counter() - clock, _processor() - processor + others
            if clock > result.clock:
                result.clock, result.slowest = clock, number
            result.processor = max(result.processor, processor)
    return result


def main(
    share: Annotated[float, typer.Option(help="Of each target's inputs.")] = 1.0,
    only: Annotated[str, typer.Option(help="One target.")] = "",
    decoder: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    if decoder:
        decode_what_comes(sys.stdin.buffer, sys.stdout.buffer)
        return
    typer.echo(
        "| target | inputs | opened | refused | decoder died | crashed | slowest: clock | processor | which "
        "| peak MB of this process so far | of one it started |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    crashes: list[str] = []
    slow = 0.0
    for target in TARGETS:
        if only not in ("", target.name):
            continue
        count = max(1, round(target.inputs * share))
        found = run(target, count)
        crashes += found.crashes
        slow = max(slow, found.processor)
        counts = " | ".join(f"{found.counts[kind]:,}" for kind in ("opened", "refused", "decoder died", "crashed"))
        typer.echo(
            f"| {target.name} | {count:,} | {counts} | {found.clock:.2f} s | {found.processor:.2f} s "
            f"| {found.slowest:,} | {_peak():,.0f} | {_peak(resource.RUSAGE_CHILDREN):,.0f} |"
        )
    for crash in crashes[:20]:
        typer.echo(f"\n{crash}")
    peak = max(_peak(), _peak(resource.RUSAGE_CHILDREN))
    if crashes or slow > SLOWEST or peak > MEMORY:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
