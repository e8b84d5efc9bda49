"""How full packs can be at most, whatever plans them, for the lengths of `benchmarks/planning.py`.

    python benchmarks/planning_bound.py --capacity 2048 --step 4        # needs scipy

Lengths are rounded down to a multiple of the step, which only makes packing easier, and packs may be used in fractions:
a linear program over all patterns, which are made as they are needed (Gilmore and Gomory, Operations Research 9, 1961).
No plan needs fewer packs than its value.
"""

from __future__ import annotations

import numpy as np
import typer
from planning import simulated
from scipy.optimize import linprog
from scipy.sparse import csr_matrix

_ENOUGH = 1e-4  # a pattern that is worth so little more than a pack would not move the result
_NEW = 80  # patterns that are added at once

Pattern = tuple[tuple[int, int], ...]  # numbers of sizes, and how many of each


def value(columns: list[Pattern], counts: np.ndarray) -> tuple[float, np.ndarray]:
    """Packs that these patterns need at least, and what a unit of each size is worth."""
    rows = [size for column in columns for size, _ in column]
    places = [number for number, column in enumerate(columns) for _ in column]
    amounts = [count for column in columns for _, count in column]
    matrix = csr_matrix((amounts, (rows, places)), shape=(len(counts), len(columns)))
    found = linprog(np.ones(len(columns)), A_ub=-matrix, b_ub=-counts, bounds=(0, None), method="highs")
    return float(found.fun), -found.ineqlin.marginals


def most_worth(sizes: np.ndarray, worth: np.ndarray, capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each room what can be worth most in it, and the number of the size that was put in last, or -1."""
    best, last = np.zeros(capacity + 1), np.full(capacity + 1, -1)
    for room in range(1, capacity + 1):
        best[room] = best[room - 1]
        fitting = int(np.searchsorted(sizes, room, side="right"))
        if fitting:
            sums = best[room - sizes[:fitting]] + worth[:fitting]
            number = int(sums.argmax())
            if sums[number] > best[room] + 1e-12:
                best[room], last[room] = sums[number], number
    return best, last


def pattern(first: int, room: int, sizes: np.ndarray, last: np.ndarray) -> Pattern:
    numbers = {first: 1}
    while room > 0:
        size = int(last[room])
        if size >= 0:
            numbers[size] = numbers.get(size, 0) + 1
        room -= int(sizes[size]) if size >= 0 else 1
    return tuple(sorted(numbers.items()))


def main(capacity: int = 2048, step: int = 4, conversations: int = 1_000_000) -> None:
    tokens = np.array(simulated(conversations), dtype=np.int64)
    sizes, counts = np.unique(np.maximum(tokens // step, 1), return_counts=True)
    places = capacity // step
    columns = {((number, places // int(size)),): None for number, size in enumerate(sizes)}
    while True:
        packs, worth = value(list(columns), counts)
        best, last = most_worth(sizes, worth, places)
        if best[places] <= 1 + _ENOUGH:
            break
        gain = worth + best[places - sizes]
        for first in np.argsort(-gain)[:_NEW].tolist():
            if gain[first] > 1 + 1e-6:
                columns[pattern(first, places - int(sizes[first]), sizes, last)] = None
    least = packs / max(1.0, best[places])  # prices that no pattern exceeds
    typer.echo(f"at least {least:,.0f} packs of {capacity:,}: filled {tokens.sum() / capacity / least:.4f} at most")


if __name__ == "__main__":
    typer.run(main)
