"""Benchmarks' official files in miniature: the same folders, names and keys, with two or three questions."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image


@dataclass(frozen=True)
class Miniature:
    """A benchmark's files and what must come of them, written by hand.

    Attributes:
        name: the benchmark.
        write: writes the files into a folder and says the options.
        prompts: the first question's prompt by each protocol, to the character; images are `<image>`.
        ids: of all questions, in their order.
        perfect: the right answer by id.
        best: the score of those, and `empty` that of no words at all.
        images: the file names of the first question's images.
        needs: paths in the folder without which nothing can be asked, and a word of the error for each.
        first: facts of the first item, by the attributes of `Item`.
    """

    name: str
    write: Callable[[Path], list[str]]
    prompts: Mapping[str, str]
    perfect: Mapping[str, str]
    images: tuple[str, ...]
    needs: Mapping[str, str]
    best: float = 1.0
    empty: float = 0.0
    first: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ids(self) -> list[str]:
        return list(self.perfect)


def picture(path: Path) -> Path:
    """A small picture, of another colour for another name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    code = zlib.crc32(path.name.encode())
    Image.new("RGB", (9, 7), (code & 255, code >> 8 & 255, code >> 16 & 255)).save(path)
    return path


def votes(*texts: str) -> list[dict[str, Any]]:
    """VQA's records of ten annotators, from ten texts or from one that all give."""
    given = texts if len(texts) > 1 else texts * 10
    return [
        {"answer": text, "answer_confidence": "yes", "answer_id": number} for number, text in enumerate(given, start=1)
    ]
