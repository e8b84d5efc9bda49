"""Questions to begin with, about pictures and a clip that are drawn on the spot: they need no network and no files.

One shows where such models fail: they are asked about something that is not there, and often say that it is.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mminstruct.media import encode_clip

SIDE = 384
CLIP_FRAMES, CLIP_RATE = 24, 8


@dataclass(frozen=True)
class Example:
    """A question about the pictures and videos in `files`. `icon` is a picture for its button, `title` stands there."""

    question: str
    files: tuple[Path, ...]
    icon: Path
    title: str


def draw_examples(folder: Path) -> list[Example]:
    """Draw the pictures into `folder`. The one with a clip is left out where PyAV, which writes it, is missing."""
    red, blue = _canvas("#f4f1ea"), _canvas("#e6eef7")
    ImageDraw.Draw(red).ellipse((96, 96, 288, 288), fill="#c8342c")
    ImageDraw.Draw(blue).polygon([(192, 84), (308, 290), (76, 290)], fill="#2458b8")
    paths = {}
    for name, picture in (("shape", red), ("triangle", blue), ("sign", _sign()), ("ball", _ball(0.5))):
        paths[name] = folder / f"{name}.png"
        picture.save(paths[name])
    examples = [
        _example("What color is the shape?", paths["shape"]),
        _example("What does the sign say?", paths["sign"]),
        _example("What is different between the two images?", paths["shape"], paths["triangle"]),
        _example(
            "How many dogs are in the picture?", paths["shape"], title="How many dogs are there? (There are none.)"
        ),
    ]
    if importlib.util.find_spec("av") is not None:
        clip = folder / "ball.mp4"
        clip.write_bytes(encode_clip([_ball(step / (CLIP_FRAMES - 1)) for step in range(CLIP_FRAMES)], CLIP_RATE))
        question = "In which direction does the ball move?"
        examples.insert(3, Example(question, (clip,), paths["ball"], question))
    return examples


def _example(question: str, *files: Path, title: str | None = None) -> Example:
    return Example(question, files, files[-1], title or question)


def _sign() -> Image.Image:
    sign = _canvas("#2f6f4f")
    draw = ImageDraw.Draw(sign)
    draw.rounded_rectangle((40, 116, 344, 268), radius=18, outline="white", width=6)
    draw.text((192, 192), "EXIT", fill="white", font=ImageFont.load_default(size=96), anchor="mm")
    return sign


def _ball(place: float) -> Image.Image:
    """A ball on a lawn, at the left (0) to the right (1)."""
    scene = _canvas("#cfe3f5")
    draw = ImageDraw.Draw(scene)
    draw.rectangle((0, 290, SIDE, SIDE), fill="#7aa95c")
    left = 20 + place * (SIDE - 40 - 90)
    draw.ellipse((left, 205, left + 90, 295), fill="#e0812b")
    return scene


def _canvas(colour: str) -> Image.Image:
    return Image.new("RGB", (SIDE, SIDE), colour)
