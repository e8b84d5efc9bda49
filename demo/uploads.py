"""Files of visitors: from an upload to a medium that a model can be asked about, and to what the page shows of it.

    path that the browser sent ──lies in the upload folder?──▶ bytes ──media gate──▶ picture or video
                                                                └▶ a folder of the question's own: the file, pictures

That folder goes when nothing holds the question any more, and when its visitor has left.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import weakref
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import ImageFont
from PIL.Image import Image
from PIL.Image import new as new_image
from PIL.ImageDraw import Draw

from mminstruct.errors import MediaError
from mminstruct.media import FrameSampling, Gate, Video
from mminstruct.media.gate import Kind

IMAGE_TYPES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
VIDEO_TYPES = (".mp4", ".webm", ".mov", ".m4v", ".mkv", ".avi", ".mpg", ".mpeg", ".ogv")
MEDIA_TYPES = (*IMAGE_TYPES, *VIDEO_TYPES)
PICTURE_EDGE = 1024  # of what the page shows of a picture
SHEET_COLUMNS, SHEET_TEXT = 4, 16


@dataclass(frozen=True)
class ShownMedium:
    """One medium as the page shows it: the file as it was uploaded, and a picture of what was read in it.

    Attributes:
        picture: the picture as it was opened; of a video its frames on one sheet.
        label: what a screen reader says of `picture`.
    """

    kind: str
    file: Path
    picture: Path
    label: str


class Folder:
    """A new folder below `parent` that goes with this object, or before when `remove` is called."""

    def __init__(self, parent: Path, prefix: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=parent))
        self.remove = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class Shown:
    """What the page needs of a question beside its text. Its files go with it, or before when `remove` is called.

    Attributes:
        media: in the order of the question.
        model: who answered; the name of a model.
    """

    def __init__(
        self, folder: Folder | None = None, media: Sequence[ShownMedium] = (), model: str | None = None
    ) -> None:
        self.media = tuple(media)
        self.model = model
        self._folder = folder

    def remove(self) -> None:
        if self._folder is not None:
            self._folder.remove()

    @property
    def files(self) -> list[Path]:
        """The uploaded files that are still there."""
        return [medium.file for medium in self.media if medium.file.is_file()]


class Uploads:
    """The upload folder of the page.

    Args:
        folder: Gradio puts uploads there and serves what is in it.
        others: folders besides it that files may be taken from (the examples).
        gate: opens the media.
    """

    def __init__(self, folder: Path, others: Sequence[Path] = (), gate: Gate | None = None) -> None:
        self.folder = folder.resolve()
        self._gate = gate or Gate()
        self._allowed = (self.folder, *(other.resolve() for other in others))
        self._lock = threading.Lock()
        self._sent: defaultdict[str, dict[Path, int]] = defaultdict(dict)  # and when each was written

    def open(
        self, files: Sequence[Path], sampling: FrameSampling, sender: str = ""
    ) -> tuple[list[Image | Video], Shown]:
        """The media in files that a visitor sent, and what the page shows of them.

        Args:
            sender: the visitor's id, for `left`.

        Raises:
            MediaError: a path outside of the upload folder, or a file that cannot be opened, which the message names.
        """
        if not files:
            return [], Shown()
        folder = self.new_folder("question")
        media: list[Image | Video] = []
        shown: list[ShownMedium] = []
        with self._gate.request() as request:
            request.expect(len(files))
            for number, path in enumerate(files, start=1):
                self.require_own(path)
                own = folder.path / str(number)
                own.mkdir()
                kept = Path(shutil.copyfile(path, own / path.name))
                try:
                    media.append(request.open_bytes(kind_of(kept), kept.read_bytes(), sampling))
                except MediaError as error:
                    raise MediaError(_named(str(error), number, path.name)) from None
                shown.append(_shown(kept, media[-1], number))
                with self._lock:
                    self._sent[sender][path.resolve()] = path.stat().st_mtime_ns
        return media, Shown(folder, shown)

    def left(self, sender: str) -> None:
        """Delete the uploads that this visitor sent, and that nobody else did: one content has one path. One that was
        uploaded again since then, and not sent yet, stays for whoever did."""
        with self._lock:
            sent = self._sent.pop(sender, {})
            for path in sent.keys() - set().union(*self._sent.values()):
                with contextlib.suppress(FileNotFoundError):
                    if not path.is_relative_to(self.folder) or path.stat().st_mtime_ns != sent[path]:
                        continue  # an example is no upload
                    path.unlink()
                    with contextlib.suppress(OSError):  # there are others in it
                        path.parent.rmdir()

    def discard(self, path: Path) -> None:
        """Delete an upload that has been read. Of a path that is no upload nothing happens."""
        if path.resolve().is_relative_to(self.folder):
            path.unlink(missing_ok=True)
        # For each file that an upload button gives, Gradio leaves an empty one behind.
        for left in self.folder.glob("tmp*"):
            if left.is_file() and left.stat().st_size == 0:
                left.unlink(missing_ok=True)

    def new_folder(self, prefix: str) -> Folder:
        """A folder whose files the page can show; it goes with the object."""
        return Folder(self.folder, prefix)

    def require_own(self, path: Path) -> None:
        """Gradio checks this too; a path that someone made up must not be read even if it one day forgets.

        Raises `MediaError` where the file is none of the page's.
        """
        resolved = path.resolve()
        if not any(resolved.is_relative_to(folder) for folder in self._allowed) or not resolved.is_file():
            raise MediaError(f"the file {path.name} is no upload of this page, or has expired; add it again")


def _named(told: str, number: int, name: str) -> str:
    """An error of the gate, which counts the media of a request, with the name of the file."""
    for kind in ("image", "video"):
        told = told.replace(f"{kind} {number} of the request", f"the file {name}")
    return told if name in told else f"the file {name}: {told}"


def kind_of(path: Path) -> Kind:
    """What a file is by its ending. Raises `MediaError` where that is neither a picture's nor a video's."""
    suffix = path.suffix.lower()
    if suffix not in MEDIA_TYPES:
        known = ", ".join(MEDIA_TYPES)
        raise MediaError(f"{path.name} is no picture and no video by its name; give one that ends in {known}")
    return "video" if suffix in VIDEO_TYPES else "image"


def _shown(file: Path, medium: Image | Video, number: int) -> ShownMedium:
    if isinstance(medium, Video):
        times = ", ".join(f"{time:.1f}" for time in medium.timestamps)
        label = f"video {number}: its {len(medium.frames)} frames at {times} seconds"
        sheet = save_picture(frame_sheet(medium), file.parent, f"{len(medium.frames)} frames of video {number}")
        return ShownMedium("video", file, sheet, label)
    return ShownMedium("image", file, save_picture(medium, file.parent, f"image {number}"), f"image {number}")


def frame_sheet(video: Video) -> Image:
    """The frames of a video in rows on one sheet, with the time of each below it."""
    columns = min(SHEET_COLUMNS, len(video.frames))
    width, height = video.size
    scale = min(1.0, PICTURE_EDGE / columns / width)
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    across = max(across, 4 * SHEET_TEXT)  # a time must fit below the smallest frame
    size = max(SHEET_TEXT, across // 7)  # the page shows the sheet smaller than it is
    line = size + 8
    rows = -(-len(video.frames) // columns)
    sheet = new_image("RGB", (columns * across, rows * (down + line)), "#1e293b")
    draw = Draw(sheet)
    font = ImageFont.load_default(size=size)
    for number, (frame, time) in enumerate(zip(video.frames, video.timestamps, strict=True)):
        left, top = number % columns * across, number // columns * (down + line)
        small = frame.resize((max(1, round(width * scale)), down))
        sheet.paste(small, (left + (across - small.width) // 2, top))
        draw.text((left + across / 2, top + down + line / 2), f"{time:.1f} s", fill="white", font=font, anchor="mm")
    return sheet


def save_picture(picture: Image, folder: Path, name: str) -> Path:
    """The picture in a format that any browser shows, made smaller where it is large.

    Args:
        name: of the file, without an ending. The page's script reads it out as what is to be seen (`script.py`), since
            Gradio's chat drops the alternative text of pictures.
    """
    small = picture.copy()
    small.thumbnail((PICTURE_EDGE, PICTURE_EDGE))
    photo = max(small.size) > PICTURE_EDGE // 2
    shown = folder / "shown"
    shown.mkdir()
    path = shown / f"{name}.{'jpg' if photo else 'png'}"
    small.save(path, format="JPEG" if photo else "PNG", quality=90)
    return path
