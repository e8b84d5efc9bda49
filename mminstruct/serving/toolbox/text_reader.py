"""Reading text, by Tesseract."""

from __future__ import annotations

from mminstruct.evidence.engines import load_engine
from mminstruct.evidence.tool import TextReader

TOOLS = [TextReader(load_engine("tesseract"))]
