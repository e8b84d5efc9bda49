"""How well texts and pictures fit, by a CLIP model of open_clip that lies in a folder: nothing is ever downloaded.

DIR/open_clip_config.json, DIR/open_clip_model.safetensors ──▶ Clip ──texts──▶ [n, d]  ──image──▶ [1, d]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mminstruct.errors import CheckpointError
from mminstruct.media import open_image


class Clip:
    """Runs on the CPU, safe for threads. Machines differ in the last digits, so close calls may too.

    Raises:
        CheckpointError: the folder has no such model, or its files do not fit together.
    """

    def __init__(self, folder: Path) -> None:
        import open_clip
        from safetensors import SafetensorError

        if not (folder / "open_clip_config.json").is_file():
            raise CheckpointError(f"{folder} has no open_clip_config.json; give the folder of an open_clip model")
        name = f"local-dir:{folder.absolute()}"
        try:
            self._model, self._preprocess = open_clip.create_model_from_pretrained(name)
            self._tokenizer = open_clip.get_tokenizer(name)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise CheckpointError(
                f"{folder} is no open_clip model that can be loaded ({error}); copy it again"
            ) from None
        self._model.eval()

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """One vector a text, float32 [n, d]."""
        import torch

        with torch.inference_mode():
            return self._model.encode_text(self._tokenizer(list(texts))).float().numpy()

    def image(self, source: Path | Image.Image) -> np.ndarray:
        """The vector of one picture, float32 [1, d]. Raises `MediaError` where a file cannot be opened."""
        import torch

        picture = open_image(source) if isinstance(source, Path) else source.convert("RGB")
        with torch.inference_mode():
            return self._model.encode_image(self._preprocess(picture)[None]).float().numpy()

    def text(self, text: str) -> np.ndarray:
        """The vector of one text, of length 1, float32 [d]."""
        return _unit(self.texts([text])[0])

    def picture(self, picture: Image.Image) -> np.ndarray:
        """The vector of one picture, of length 1, float32 [d]."""
        return _unit(self.image(picture)[0])


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)
