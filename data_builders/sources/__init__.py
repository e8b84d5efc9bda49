"""Where labelled pictures come from: the worlds of this project, or local copies of public data sets as published.

    {reader: scenes, kind: relation}                           ──▶ procedural pictures, as many as are wanted
    {reader: json, folder: gqa, file: ..., images: ...}        ──▶ Row(picture, key, fields), one a labelled instance

A data set whose file is JSON needs no code: its layout is written down where it is used.
"""

from typing import Annotated

from pydantic import Field

from mminstruct.data_builders.sources.coco import CocoRows
from mminstruct.data_builders.sources.files import ClassRows, Files, JsonRows, Row, VqaRows
from mminstruct.data_builders.sources.worlds import WORLDS, Drawn, World

Source = Annotated[World | JsonRows | VqaRows | CocoRows | ClassRows, Field(discriminator="reader")]

__all__ = ["WORLDS", "Drawn", "Files", "Row", "Source", "World"]
