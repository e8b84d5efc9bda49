"""Pictures of a chat as the encoder sees them: each is prepared and encoded once, however often it is asked about."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch

from mminstruct.media import Video
from mminstruct.models.image import Features
from mminstruct.models.layout import Medium

if TYPE_CHECKING:
    from PIL.Image import Image

    from mminstruct.models.processor import Processor
    from mminstruct.models.vlm import VisionLanguageModel


class Seen:
    """The encoder's features of media, up to `limit` bytes; what was not used for longest goes first."""

    def __init__(self, model: VisionLanguageModel, processor: Processor, limit: int) -> None:
        self._model = model
        self._processor = processor
        self._limit = limit
        self._found: OrderedDict[str, Features] = OrderedDict()
        self.bytes = 0

    def features(self, name: str, medium: Image | Video) -> Features:
        """What the encoder makes of a medium, `[t, P, D]`. `name` stands for its content (`content_name`)."""
        if name in self._found:
            self._found.move_to_end(name)
            return self._found[name]
        prepared: Any = self._processor.prepare(medium)
        pixels = prepared.pixels.to(self._model.device, self._model.get_input_embeddings().weight.dtype)
        found = Features(self._model.vision_encoder(pixels), prepared.medium)
        size = found.features.nbytes
        if size <= self._limit:
            self._found[name] = found
            self.bytes += size
            while self.bytes > self._limit:
                _, oldest = self._found.popitem(last=False)
                self.bytes -= oldest.features.nbytes
        return found

    def outline(self, medium: Image | Video) -> Features:
        """The same without any numbers, for counting places."""
        width, height = medium.size
        size = Medium(len(medium.frames) if isinstance(medium, Video) else 0, height, width)
        return Features(torch.empty(self._processor.layout.tiles(size), 0), size)

    def clear(self) -> int:
        """Forget everything. Returns how many bytes that frees."""
        freed, self.bytes = self.bytes, 0
        self._found.clear()
        return freed


def content_name(medium: Image | Video) -> str:
    """A hash of a medium's pixels (and of a video's times), the same for the same content."""
    digest = hashlib.sha256()
    for frame in medium.frames if isinstance(medium, Video) else [medium]:
        digest.update(f"{frame.mode} {frame.size}".encode())
        digest.update(frame.tobytes())
    if isinstance(medium, Video):
        digest.update(repr(medium.timestamps).encode())
    return digest.hexdigest()
