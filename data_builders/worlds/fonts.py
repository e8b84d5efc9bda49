"""Fonts that every machine has: those that come with matplotlib, which is located and never imported."""

from __future__ import annotations

import functools
import importlib.util
import threading
from pathlib import Path

from PIL import ImageFont

from mminstruct.errors import DataError

_LOCK = threading.Lock()


@functools.cache
def folder() -> Path:
    """Where matplotlib keeps its TrueType files. Raises `DataError` where it is not installed."""
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        raise DataError("pictures with text take their fonts from matplotlib; run: pip install matplotlib")
    return Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"


@functools.cache
def _loaded(size: int, family: str, bold: bool) -> ImageFont.FreeTypeFont:
    path = folder() / f"{family}{'-Bold' if bold else ''}.ttf"
    if not path.is_file():
        known = sorted(file.stem for file in folder().glob("*.ttf"))
        raise DataError(f"there is no font {path.stem} in {folder()}; it has {', '.join(known)}")
    # The basic layout is part of Pillow; the other depends on libraries of the machine, and so would the pixels.
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def font(size: int, family: str = "DejaVuSans", bold: bool = False) -> ImageFont.FreeTypeFont:
    """A font of `size` pixels, loaded once. Safe for threads. Raises `DataError` where there is none of that name."""
    with _LOCK:
        return _loaded(size, family, bold)
