"""Building data sets: a `Builder` turns images and their facts into conversations, the engine writes them."""

from mminstruct.building.builder import Builder, builder_class, load_builder
from mminstruct.building.engine import run

__all__ = ["Builder", "builder_class", "load_builder", "run"]
