"""RapidOCR with the PP-OCR models that lie in its package, as an engine. Nothing is ever downloaded.

picture ──find text──▶ quads ──turn upright──▶ strips ──read──▶ lines with quads
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mminstruct.errors import ConfigError, MediaError
from mminstruct.evidence.ocr import OcrEngine, TextLine

if TYPE_CHECKING:
    from rapidocr import RapidOCR

# Which model does what, and where the package keeps it.
_MODELS = {
    "Det": "PP-OCRv6_det_small.onnx",
    "Cls": "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
    "Rec": "PP-OCRv6_rec_small.onnx",
}


class _Own(threading.local):
    """What one thread has."""

    engine: RapidOCR | None = None


class RapidOcr(OcrEngine):
    """
    Args:
        threads: for one picture. Pictures are read side by side in as many threads as ask; each gets models of its own,
            since the package's objects keep a picture's state.

    Raises:
        ConfigError: the package, or a model that it should hold, is not there.
    """

    name = "rapidocr"

    def __init__(self, threads: int = 1) -> None:
        missing = [name for name in ("rapidocr", "onnxruntime", "cv2") if importlib.util.find_spec(name) is None]
        spec = importlib.util.find_spec("rapidocr")
        if missing or spec is None or spec.origin is None:
            raise ConfigError(
                f"rapidocr cannot run without {', '.join(missing)}; run: pip install mminstruct[ocr] "
                f"(cv2 is opencv-python-headless), or choose the engine tesseract"
            )
        folder = Path(spec.origin).parent / "models"
        self._models = {part: folder / name for part, name in _MODELS.items()}
        version = importlib.metadata.version("rapidocr")
        for path in self._models.values():
            if not path.is_file():
                raise ConfigError(
                    f"rapidocr {version} does not hold {path.name}; install a version of 3.10 or newer that does, "
                    f"since models are not downloaded here"
                )
        self.version = f"{version} {_MODELS['Det'].removesuffix('.onnx')} {_MODELS['Rec'].removesuffix('.onnx')}"
        self._threads = threads
        self._own = _Own()

    def read(self, picture: Image.Image) -> list[TextLine]:
        import cv2
        from rapidocr.inference_engine.onnxruntime.main import ONNXRuntimeError
        from rapidocr.utils.output import RapidOCROutput

        pixels = np.ascontiguousarray(np.asarray(picture.convert("RGB"))[:, :, ::-1])  # it wants blue first
        try:
            read = self._engine()(pixels)
        except (ONNXRuntimeError, cv2.error, ValueError, IndexError) as error:
            raise MediaError(
                f"rapidocr failed at a picture of {picture.width} x {picture.height} pixels "
                f"({type(error).__name__}); leave it out, or make it smaller"
            ) from None
        if not isinstance(read, RapidOCROutput) or read.boxes is None or read.txts is None or read.scores is None:
            return []
        found = []
        for corners, text, score in zip(read.boxes.tolist(), read.txts, read.scores, strict=True):
            a, b, c, d = ((float(x), float(y)) for x, y in corners)
            found.append(TextLine(" ".join(text.split()), (a, b, c, d), float(score)))
        return found

    def _engine(self) -> RapidOCR:
        """This thread's own."""
        if self._own.engine is None:
            from rapidocr import RapidOCR

            settings: dict[str, object] = {f"{part}.model_path": str(path) for part, path in self._models.items()}
            settings |= {
                "Global.log_level": "critical",
                "Global.text_score": 0.0,  # who uses the lines says how sure they have to be
                "EngineConfig.onnxruntime.intra_op_num_threads": self._threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
            self._own.engine = RapidOCR(params=settings)
        return self._own.engine
