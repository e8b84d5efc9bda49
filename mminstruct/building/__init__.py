"""Building data sets: a `Builder` turns items and their facts into conversations, the engine runs it."""

from mminstruct.building.builder import BadItem, Builder, builder_class, load_builder
from mminstruct.building.engine import BuildConfig, Progress, run
from mminstruct.building.job import Job

__all__ = ["BadItem", "BuildConfig", "Builder", "Job", "Progress", "builder_class", "load_builder", "run"]
