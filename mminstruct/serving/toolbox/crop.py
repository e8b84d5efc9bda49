"""Cutting a part out of the picture, to look at it more closely."""

from __future__ import annotations

from mminstruct.evidence.tool import Cropper

TOOLS = [Cropper()]
