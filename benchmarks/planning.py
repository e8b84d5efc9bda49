"""What a plan of packs costs, and how full packs are, for simulated lengths like those of LLaVA's 665,000 samples.

    python benchmarks/planning.py --conversations 1000000

Six of a hundred conversations are text alone, the others have a picture of 576 tokens (LLaVA-1.5's); the texts' lengths
are log-normal, cut at 2,048 tokens in all, as that project cuts them. The token counts themselves are simulated, so
this is the time of planning, not of counting tokens.
"""

from __future__ import annotations

import resource
import time
from array import array

import numpy as np
import typer

from mminstruct.data.plan import BatchPlan

PICTURE, LONGEST = 576, 2048


def simulated(conversations: int) -> array[int]:
    """Tokens of each conversation."""
    rng = np.random.default_rng(0)
    text_only = rng.random(conversations) < 0.06
    texts = np.where(text_only, rng.lognormal(6.3, 0.8, conversations), rng.lognormal(5.0, 0.8, conversations))
    lengths = texts.astype(np.int32).clip(min=16) + np.where(text_only, 0, PICTURE)
    return array("i", lengths.clip(max=LONGEST).astype(np.int32).tobytes())


def peak() -> float:
    """Megabytes of this process so far, at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main(conversations: int = 1_000_000) -> None:
    tokens = simulated(conversations)
    mean, median = np.mean(tokens), np.median(tokens)
    typer.echo(f"{conversations:,} conversations, {mean:.0f} tokens on average, median {median:.0f}\n")
    typer.echo("| pack_tokens | packs | filled | seconds | peak MB of the process so far |\n|---|---|---|---|---|")
    for capacity in (2048, 4096, 8192, 16384):
        started = time.perf_counter()
        plan = BatchPlan(conversations, seed=0, batch_size=1, pack_tokens=capacity, tokens=tokens, prefixes=())
        packs = plan.epoch(0)
        seconds = time.perf_counter() - started
        filled = sum(tokens) / (len(packs) * capacity)
        typer.echo(f"| {capacity:,} | {len(packs):,} | {filled:.4f} | {seconds:.1f} | {peak():.0f} |")


if __name__ == "__main__":
    typer.run(main)
