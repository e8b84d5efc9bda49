"""Finding and measuring plain shapes of named colours, as the scenes of `data_builders/worlds` have them."""

from __future__ import annotations

from mminstruct.evidence.shape_tools import ShapeDetector, ShapeSegmenter

TOOLS = [ShapeDetector(), ShapeSegmenter()]
