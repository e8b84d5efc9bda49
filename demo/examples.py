"""Questions to begin with, about pictures that are drawn on the spot: they need no network and no files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont


@dataclass(frozen=True)
class Example:
    """A question about the pictures and videos in `files`; `icon` is a picture for its button."""

    question: str
    files: tuple[Path, ...]

    @property
    def icon(self) -> Path:
        return self.files[-1]


def draw_examples(folder: Path) -> list[Example]:
    """Draw the pictures into `folder`."""
    shape = _canvas("#f4f1ea")
    ImageDraw.Draw(shape).ellipse((96, 96, 288, 288), fill="#c8342c")
    other = _canvas("#e6eef7")
    ImageDraw.Draw(other).polygon([(192, 84), (308, 290), (76, 290)], fill="#2458b8")
    sign = _canvas("#2f6f4f")
    draw = ImageDraw.Draw(sign)
    draw.rounded_rectangle((40, 116, 344, 268), radius=18, outline="white", width=6)
    draw.text((192, 192), "EXIT", fill="white", font=ImageFont.load_default(size=96), anchor="mm")
    paths = {}
    for name, picture in (("shape", shape), ("triangle", other), ("sign", sign)):
        paths[name] = folder / f"{name}.png"
        picture.save(paths[name])
    return [
        Example("What color is the shape?", (paths["shape"],)),
        Example("What does the sign say?", (paths["sign"],)),
        Example("What is different between the two images?", (paths["shape"], paths["triangle"])),
    ]


def _canvas(colour: str) -> Image.Image:
    return Image.new("RGB", (384, 384), colour)
