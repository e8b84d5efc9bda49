"""Procedural pictures as a source of labelled instances."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from PIL import Image
from pydantic import model_validator

from mminstruct.config import Config
from mminstruct.data_builders.worlds import appearances, chart_questions, scene_questions
from mminstruct.data_builders.worlds.charts import chart
from mminstruct.data_builders.worlds.scenes import scene
from mminstruct.errors import did_you_mean

Slots = dict[str, Any]


class Known(Protocol):
    """A picture or a clip of which everything is known, and which is not drawn yet."""

    @property
    def id(self) -> str: ...


class Drawn(Known, Protocol):
    def draw(self) -> Image.Image: ...


@dataclass(frozen=True)
class WorldKind:
    """How pictures of a world are made, and what can be asked about them."""

    make: Callable[[int, int], Any]
    questions: dict[str, Callable[[Any, random.Random], Slots | None]]


WORLDS: dict[str, WorldKind] = {
    "scenes": WorldKind(scene, scene_questions.KINDS),
    "charts": WorldKind(chart, chart_questions.KINDS),
    "clips": WorldKind(appearances.clip, appearances.KINDS),
}


class World(Config):
    """A question about a world's pictures; `kind` is one of those in `worlds/*_questions.py`."""

    reader: Literal["scenes", "charts"]
    kind: str

    @model_validator(mode="after")
    def _kind_is_known(self) -> World:
        known = WORLDS[self.reader].questions
        if self.kind not in known:
            raise ValueError(f"there is no question {self.kind!r} about {self.reader}.{did_you_mean(self.kind, known)}")
        return self

    def slots(self, drawn: Drawn, chance: random.Random) -> Slots | None:
        """The slots of a question with its answer; None where it cannot be asked about this picture."""
        return WORLDS[self.reader].questions[self.kind](drawn, chance)
