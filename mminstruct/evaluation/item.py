"""One question of a benchmark, as readers make it, runners ask it and scorers judge it.

official files ── reader ──▶ [Item] ── runner ──▶ [prediction] ── scorer ──▶ Score
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Item:
    """One question and its gold answers.

    Attributes:
        id: the question's name, unique within its benchmark.
        images: the files of its images, in the order in which the model sees them; empty where only scores are asked.
        question: its text without instructions on how to answer.
        answers: the gold answers: one, several that are all right, or the votes of several annotators, as the metric
            reads them. For a choice it is the letter.
        kind, detail: the question's type, coarse and fine ("yes-no" and "color"); results are also given by type.
        cluster: items that share it (an image, a video) are not independent of each other: it clusters standard errors.
        choices: the options of a multiple choice question, in the order of their letters.
        group: items that share it are judged together: the rotations of one question, the two questions on an image.
        videos: the files of its videos.
        after: ids of the items that are asked before, as earlier turns of the same conversation; what the model replied
            to them is part of the prompt.
        facts: what else a metric needs to know, as JSON values by the metric's own names (`precision`, `boxes`, ...).
    """

    id: str
    images: tuple[Path, ...] = ()
    question: str = ""
    answers: tuple[str, ...] = ()
    kind: str = ""
    detail: str = ""
    cluster: str = ""
    choices: tuple[str, ...] = ()
    group: str = ""
    videos: tuple[Path, ...] = ()
    after: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def types(self) -> tuple[str, ...]:
        """The names of the item's question types, coarse first."""
        if not self.kind:
            return ()
        return (self.kind, f"{self.kind} ({self.detail})") if self.detail else (self.kind,)
