"""The contract of tools that a model may call: a picture and arguments in, values that JSON can hold out.

    picture, {"caption": "girl . cart"} ──call: long side ≤ 800──▶ Tool.run ──rounded──▶ {"boxes": [[0.12, ...]], ...}
                                                             └──▶ Tool.pictures, of the whole picture

Places are shares of the picture's width and height, (left, top, right, bottom), whatever size a tool looks at. Tools
stand in files whose `TOOLS` is a list of them: those of `mminstruct/serving/toolbox/`, or files of one's own.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from PIL import Image
from pydantic import Field

from mminstruct import catalog
from mminstruct.config import Config
from mminstruct.errors import ConfigError, MediaError
from mminstruct.evidence.ocr import OcrEngine

LONG_SIDE = 800  # pixels of the picture that a tool is given, at most
DIGITS = 2  # behind the point, of every number that a tool gives

A = TypeVar("A", bound=Config)


class Tool(ABC, Generic[A]):
    """Called from several threads at once.

    Attributes:
        name: what models call it by.
        version: of the tool and its models.
        does: what it finds and which arguments it takes, one sentence that a model is told.
        arguments: what it takes; all have been checked when `run` is called.
    """

    name: str
    version: str
    does: str
    arguments: type[A]

    @abstractmethod
    def run(self, picture: Image.Image, arguments: A) -> dict[str, Any]:
        """What is found in an RGB picture.

        Raises:
            MediaError: the tool failed at this picture.
        """

    def pictures(self, picture: Image.Image, arguments: A) -> list[Image.Image]:
        """New pictures that go into the conversation beside the output; `picture` has all its pixels here.

        Raises:
            MediaError: as `run`.
        """
        return []


def tools_of(entry: str) -> list[Tool[Any]]:
    """The tools of a file, by its name in the toolbox or by its path.

    Raises:
        ConfigError: there is no such file, it has no list `TOOLS`, or what one of them needs is not installed.
    """
    found = getattr(catalog.module(catalog.TOOL, entry), "TOOLS", None)
    if not isinstance(found, list) or not found or not all(isinstance(tool, Tool) for tool in found):
        raise ConfigError(f"{entry} has no TOOLS; set TOOLS to a list of mminstruct.evidence.tool.Tool at its end")
    return found


def call(tool: Tool[A], picture: Image.Image, arguments: A) -> dict[str, Any]:
    """What a tool gives of a picture whose long side has `LONG_SIDE` pixels at most, with rounded numbers."""
    longest = max(picture.size)
    if longest > LONG_SIDE:
        width, height = (max(1, round(side * LONG_SIDE / longest)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    result: dict[str, Any] = rounded(tool.run(picture.convert("RGB"), arguments))
    return result


def rounded(value: Any) -> Any:
    """A value whose fractions have `DIGITS` digits, at any depth; everything else stays as it is."""
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list | tuple) else value


class Region(Config):
    """The part of a picture that is looked at; left out, all of it."""

    box: tuple[float, float, float, float] = Field(default=(0.0, 0.0, 1.0, 1.0))


class TextReader(Tool[Region]):
    """Reads a picture, or a part of it, by an engine of text recognition: texts in reading order, boxes and scores."""

    name = "text_reader"
    does = (
        "reads the text in the picture; with the argument box, [left, top, right, bottom] in shares of the picture, "
        "only the lines whose middle lies in it"
    )
    arguments = Region

    def __init__(self, engine: OcrEngine) -> None:
        self.engine = engine
        self.version = f"{engine.name} {engine.version}"

    def run(self, picture: Image.Image, arguments: Region) -> dict[str, Any]:
        width, height = picture.size
        left, top, right, bottom = arguments.box
        found = []
        for line in self.engine.read(picture):
            box = (line.box[0] / width, line.box[1] / height, line.box[2] / width, line.box[3] / height)
            if left <= (box[0] + box[2]) / 2 <= right and top <= (box[1] + box[3]) / 2 <= bottom:
                found.append((line.text, list(box), line.confidence))
        texts, boxes, scores = ([one[place] for one in found] for place in range(3))
        return {"texts": texts, "boxes": boxes, "scores": scores}


class Part(Config):
    """The part of a picture that is cut out."""

    box: tuple[float, float, float, float] = Field(examples=[[0.25, 0.25, 0.75, 0.75]])


class Cropper(Tool[Part]):
    """Cuts a part out of a picture, with all its pixels, so that small things can be looked at."""

    name = "crop"
    version = "1"
    does = (
        "cuts a part out of the picture and shows it as a new picture; its argument box is [left, top, right, bottom] "
        "in shares of the picture"
    )
    arguments = Part

    def run(self, picture: Image.Image, arguments: Part) -> dict[str, Any]:
        left, top, right, bottom = self._pixels(picture, arguments)
        return {"boxes": [[left / picture.width, top / picture.height, right / picture.width, bottom / picture.height]]}

    def pictures(self, picture: Image.Image, arguments: Part) -> list[Image.Image]:
        return [picture.crop(self._pixels(picture, arguments))]

    def _pixels(self, picture: Image.Image, arguments: Part) -> tuple[int, int, int, int]:
        """The box in whole pixels, what lies outside of the picture left out."""
        left, top, right, bottom = (min(1.0, max(0.0, edge)) for edge in arguments.box)
        box = math.floor(left * picture.width), math.floor(top * picture.height)
        end = math.ceil(right * picture.width), math.ceil(bottom * picture.height)
        if end[0] <= box[0] or end[1] <= box[1]:
            given = ", ".join(f"{edge:g}" for edge in arguments.box)
            raise MediaError(
                f"the box [{given}] holds nothing of the picture; give left, top, right, bottom in shares of it, 0 to 1"
            )
        return *box, *end
