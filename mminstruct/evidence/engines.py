"""The engines by name. Each is imported when it is asked for, so that one may be installed without the other."""

from __future__ import annotations

from typing import Literal, assert_never

from mminstruct.evidence.ocr import OcrEngine

EngineName = Literal["tesseract", "rapidocr"]


def load_engine(name: EngineName, language: str = "eng", threads: int = 1) -> OcrEngine:
    """
    Args:
        language: of the text, as Tesseract calls it; RapidOCR's models read those that they know without being told.
        threads: of RapidOCR for one picture; Tesseract has one.

    Raises:
        ConfigError: it is not installed.
    """
    if name == "tesseract":
        from mminstruct.evidence.tesseract import Tesseract

        return Tesseract(language)
    if name == "rapidocr":
        from mminstruct.evidence.rapid import RapidOcr

        return RapidOcr(threads)
    assert_never(name)
