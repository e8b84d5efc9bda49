"""One medium as a check sees it: is the file there, whole, and what its name says; its hashes.

    path, limits ──▶ Seen(SHA-256, size, look, problem)

Pictures are opened as everything else opens them (`mminstruct.media`): what passes here can be trained on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from mminstruct.errors import MediaError
from mminstruct.files import sha256
from mminstruct.formats import media_source
from mminstruct.inspection.looks import Look, look_of
from mminstruct.media import FrameSampling, ImageLimits, decode_base64, image_size, image_suffix, open_image, open_video

# Endings that say one thing.
_SAME = {".jpg": ".jpeg", ".jpe": ".jpeg", ".tif": ".tiff"}
_ANY = 1 << 62  # pixels
_KNOWN = {".jpeg", ".png", ".webp", ".gif", ".bmp", ".tiff"}


@dataclass(frozen=True)
class Seen:
    """
    Attributes:
        problem: code and what is wrong; one with which the medium cannot be used.
        sha256, size, look: where it could be read; size is width and height as the picture is shown.
        suffix: what the name of the file should end in, where it ends in something else.
    """

    problem: tuple[str, str] | None = None
    sha256: str | None = None
    size: tuple[int, int] | None = None
    look: Look | None = None
    suffix: str | None = None


def see(kind: str, path: str, root: Path, limits: ImageLimits, *, looks: bool) -> Seen:
    """What there is to know of a medium.

    Args:
        looks: whether to compute what a picture looks like.
    """
    source = media_source(path, root)
    name = f"{path[:32]}..." if isinstance(source, str) else path
    if isinstance(source, Path):
        try:
            size = source.stat().st_size if source.is_file() else None
        except (OSError, ValueError):
            size = None
        if size is None:
            return Seen(problem=("media-missing", f"{kind} {name} is not there (below {root})"))
        if size == 0:
            return Seen(problem=("media-empty", f"{kind} {name} has no bytes"))
        if kind == "image" and size > limits.max_bytes:
            return Seen(problem=("media-large", f"{name} has {size:,} bytes, more than {limits.max_bytes:,}"))
    return _image(source, name, limits, looks) if kind == "image" else _video(source, name)


def _image(source: str | Path, name: str, limits: ImageLimits, looks: bool) -> Seen:
    try:
        data = source.read_bytes() if isinstance(source, Path) else decode_base64(source.partition(",")[2])
    except (OSError, MediaError) as error:
        return Seen(problem=("media-broken", f"{name} cannot be read ({error})"))
    digest = hashlib.sha256(data).hexdigest()
    try:
        width, height = image_size(source, ImageLimits(max_bytes=limits.max_bytes, max_pixels=_ANY))
        if width * height > limits.max_pixels:
            what = f"{name} has {width:,} x {height:,} pixels, more than {limits.max_pixels:,}"
            return Seen(problem=("media-large", what), sha256=digest, size=(width, height))
        picture = open_image(data if isinstance(source, Path) else source, limits)
    except MediaError as error:
        return Seen(problem=("media-broken", f"{name}: {str(error).replace(str(source), 'it')}"), sha256=digest)
    named = source.suffix.lower() if isinstance(source, Path) else ""
    is_, says = image_suffix(data), _SAME.get(named, named)
    wrong = is_ if says in _KNOWN and says != is_ else None
    return Seen(sha256=digest, size=picture.size, look=look_of(picture) if looks else None, suffix=wrong)


def _video(source: str | Path, name: str) -> Seen:
    if isinstance(source, str):
        return Seen(problem=("media-broken", "a video must be a file; a data URI can hold pictures only"))
    try:
        found = open_video(source, FrameSampling(limit=2))  # first and last frame: one that breaks off is found
    except MediaError as error:
        return Seen(problem=("media-broken", f"{name}: {str(error).removeprefix(f'{source}: ')}"))
    return Seen(sha256=sha256(source), size=found.size)
