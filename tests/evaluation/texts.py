"""Random texts made of what breaks parsers: letters, phrases, marks, blanks, digits, other scripts, and nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator

PIECES = (
    *(
        "A",
        "B",
        "C",
        "D",
        "E",
        "I",
        "Z",
        "a",
        "b",
        "d",
        "(A)",
        "(B)",
        "(b)",
        "(z)",
        "A.",
        "B.",
        "C:",
        "D)",
        "(D).",
        "**C**",
    ),
    *("The answer is ", "the correct answer is ", "The answer", "The best option is", "The correct option is"),
    *("Best answer:", "Answer:", "Option:", "answer ", "is ", "so ", "thus ", "=", "this ", "I choose", "정답은", "选"),
    *("cat", "dog", "a big cat", "DNA", "because", "Cannot determine the answer", "none", "None", "nan", "inf"),
    *("Failed to obtain answer via API", "Dog", "CAT", "not", "the", "and"),
    *("1", "2", "1,200", "3.5", "-2", "1e3", ".5", "12,34", "0", "5.0", " 7 ", "1_000", "٣", "½"),
    *(
        " ",
        "  ",
        "\n",
        "\t",
        ".",
        ",",
        "!",
        "?",
        ";",
        ":",
        "'",
        '"',
        "#",
        "{",
        "}",
        "[",
        "]",
        "*",
        "-",
        "/",
        "é",
        "選",
        "",
    ),
)
OPTIONS = ("cat", "dog", "a big cat", "Dog", "a cat and a dog", "1", "B", "none", "selection", "3.5", "é")


def texts(seed: str, count: int) -> Iterator[str]:
    """`count` texts of up to twelve pieces, with blanks between them or without."""
    chance = random.Random(seed)
    for _ in range(count):
        yield chance.choice(("", " ", " ")).join(chance.choices(PIECES, k=chance.randint(0, 12)))


def options(seed: str, count: int, fewest: int = 2, most: int = 5) -> Iterator[dict[str, str]]:
    """`count` sets of options by letter."""
    chance = random.Random(seed)
    for _ in range(count):
        yield dict(zip("ABCDEFGHIJ", chance.choices(OPTIONS, k=chance.randint(fewest, most)), strict=False))
