"""What `Builder.make` has to work with for one item: chance, questions to a model, files, a count of what it drops."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from PIL import Image

from mminstruct.building.asking import Asker
from mminstruct.building.builder import Builder
from mminstruct.building.prompt import Prompt
from mminstruct.conversation import Media, Provenance
from mminstruct.errors import DataError, MediaError, WaitingError
from mminstruct.files import FileState, bytes_sha256, file_state, sha256, write_bytes
from mminstruct.media import FrameSampling, Video, encode_clip, encode_png, open_video, read_image

F = TypeVar("F")
R = TypeVar("R")
_MOST_KNOWN = 100_000


@dataclass(frozen=True)
class Answer(Generic[R]):
    """The content of a reply, and the keys of all replies on the way to it."""

    value: R
    call_ids: list[str]


@dataclass
class Known:
    """What is known of files, so that those which come again are not read again. Shared by a run's items.

    Attributes:
        files: hashes of the build's own, by their names.
        sources: hash and size of pictures that were taken over.
    """

    files: dict[str, str] = field(default_factory=dict)
    sources: dict[tuple[Path, FileState | None], tuple[str, tuple[int, int]]] = field(default_factory=dict)

    def forget(self) -> None:
        """Where it is much: what comes again comes soon."""
        for known in (self.files, self.sources):
            if len(known) >= _MOST_KNOWN:
                known.clear()


class Job:
    """One item's.

    Attributes:
        random: seeded by builder, version and item, so it does not depend on what else is built, or in which thread.
        dropped: how often which rule left something out.
        call_ids: keys of all replies so far.
        files: the names of all that was written below the build's folder.
    """

    def __init__(
        self, builder: Builder, item: str, folder: Path, asker: Asker | None, known: Known | None = None
    ) -> None:
        self.random = random.Random(f"{builder.name}/{builder.version}/{item}")
        self.dropped: Counter[str] = Counter()
        self.call_ids: list[str] = []
        self.files: list[str] = []
        self._builder = builder
        self._folder = folder
        self._asker = asker
        self._known = known or Known()

    def ask(self, prompt: Prompt[F, R], facts: F, media: Sequence[Media] = ()) -> Answer[R]:
        """What the model replied; see `Asker.ask` for errors. Pictures have been `save`d before."""
        if self._asker is None:
            raise TypeError(f"{self._builder.name} asks a model and does not say so; set asks = True")
        before = len(self.call_ids)
        value = self._asker.ask(prompt, facts, media, self.call_ids)
        return Answer(value, self.call_ids[before:])

    def ask_all(self, questions: Iterable[tuple[Prompt[F, R], F]], media: Sequence[Media] = ()) -> list[Answer[R]]:
        """What the model replied to questions of which none needs another's reply, so one batch holds them all."""
        answers = []
        waiting: WaitingError | None = None
        for prompt, facts in questions:
            try:
                answers.append(self.ask(prompt, facts, media))
            except WaitingError as error:
                waiting = error
        if waiting is not None:
            raise waiting
        return answers

    def drop(self, rule: str, count: int = 1) -> None:
        """Note that a rule left something out."""
        self.dropped[rule] += count

    def save(self, picture: Image.Image, name: str) -> Media:
        """Write a picture as PNG to `images/NAME.png`."""
        return self.save_encoded(encode_png(picture), name, picture.size)

    def save_encoded(self, png: bytes, name: str, size: tuple[int, int]) -> Media:
        """Write the PNG of a picture of this size to `images/NAME.png`."""
        return self._write(png, f"images/{name}.png", size)

    def copy(self, source: Path, name: str, opened: Image.Image | None = None) -> Media:
        """Take over a picture's file as it is, to `images/NAME`; `opened` is the picture, where it is open already.

        Raises `MediaError` where it cannot be opened.
        """
        if opened is not None:
            return self._write(source.read_bytes(), f"images/{name}", opened.size)
        key = source, file_state(source)
        known = self._known.sources.get(key)
        if known is not None and self._there(f"images/{name}", known[0]):
            return self._media(f"images/{name}", *known)
        data, picture = read_image(source)  # a broken one is found here, not in training
        media = self._write(data, f"images/{name}", picture.size)
        if media.sha256 is not None:
            self._known.sources[key] = media.sha256, picture.size
        return media

    def copy_noted(self, source: Path, name: str, noted: Media) -> Media:
        """Take over a file of another data set that notes its hash and size: what was a whole picture still is one.

        Raises:
            MediaError: the file is missing, or has changed since.
        """
        try:
            data = source.read_bytes()
        except FileNotFoundError:
            data = b""
        if bytes_sha256(data) != noted.sha256 or noted.width is None or noted.height is None:
            raise MediaError(
                f"{source} is missing or not the picture any more that its data set notes; build that again"
            )
        return self._write(data, f"images/{name}", (noted.width, noted.height))

    def save_clip(self, frames: Sequence[Image.Image], name: str, rate: int) -> Media:
        """Write frames, `rate` a second, as `videos/NAME.mp4`. See `encode_clip` for errors."""
        return self._write(encode_clip(frames, rate), f"videos/{name}.mp4", frames[0].size, "video")

    def copy_clip(self, source: Path, name: str, sampling: FrameSampling | None = None) -> tuple[Media, Video]:
        """Take over a video's file as it is, to `videos/NAME`; with it the frames that `sampling` chooses.

        Raises `MediaError` where it cannot be opened.
        """
        video = open_video(source, sampling)
        return self._write(source.read_bytes(), f"videos/{name}", video.size, "video"), video

    def _write(self, data: bytes, name: str, size: tuple[int, int], kind: Literal["image", "video"] = "image") -> Media:
        digest = bytes_sha256(data)
        if not self._there(name, digest, kind):
            write_bytes(self._folder / name, data)
        return self._media(name, digest, size, kind)

    def _there(self, name: str, digest: str, kind: Literal["image", "video"] = "image") -> bool:
        """Whether the file is there already, of another item or of a run that was killed."""
        there = self._known.files.get(name)
        if there is None:
            if ".." in name.split("/"):  # of a file of the user's, that may name anything
                raise DataError(f"{name} would lie outside of the data set; give ids and names without '..'")
            path = self._folder / name
            if not path.exists():
                return False
            there = sha256(path)
        if there != digest:
            what = "pictures" if kind == "image" else "clips"
            raise DataError(f"two {what} want the name {name}; the builder {self._builder.name} must tell them apart")
        return True

    def _media(self, name: str, digest: str, size: tuple[int, int], kind: Literal["image", "video"] = "image") -> Media:
        self._known.forget()
        self._known.files[name] = digest
        self.files.append(name)
        return Media(kind=kind, path=name, sha256=digest, width=size[0], height=size[1])

    def provenance(self, parents: Sequence[str] = (), *answers: Answer[Any]) -> Provenance:
        """The origin of a record made of `parents` and of what a model answered."""
        return self._builder.provenance(parents, [key for answer in answers for key in answer.call_ids])
