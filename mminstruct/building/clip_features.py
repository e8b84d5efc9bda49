"""Features of pictures and texts by an open_clip model of one's own disk, where words and colours are not enough.

FOLDER (open_clip_config.json and weights) ──▶ ClipFeatures ──▶ pictures [D], texts [D], each of length 1
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mminstruct.errors import CheckpointError


class ClipFeatures:
    """On the CPU. Floating point differs between machines in the last digits, so close calls may too.

    Args:
        folder: as open_clip's `local-dir:` takes it.

    Raises:
        CheckpointError: no such model.
    """

    def __init__(self, folder: Path) -> None:
        import open_clip
        import torch
        from safetensors import SafetensorError

        self._torch = torch
        if not (folder / "open_clip_config.json").is_file():
            raise CheckpointError(f"{folder} has no open_clip_config.json; give the folder of an open_clip model")
        name = f"local-dir:{folder}"
        try:
            self._model, _, self._transform = open_clip.create_model_and_transforms(name)
            self._tokenizer: Any = open_clip.get_tokenizer(name)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise CheckpointError(
                f"{folder} is no open_clip model that can be loaded ({error}); fetch it again"
            ) from None
        self._model.eval()

    def picture(self, picture: Image.Image) -> np.ndarray:
        with self._torch.inference_mode():
            return self._unit(self._model.encode_image(self._transform(picture.convert("RGB"))[None]))

    def text(self, text: str) -> np.ndarray:
        with self._torch.inference_mode():
            return self._unit(self._model.encode_text(self._tokenizer([text])))

    def _unit(self, found: Any) -> np.ndarray:
        values: np.ndarray = found[0].float().numpy()
        return values / max(float(np.linalg.norm(values)), 1e-12)
