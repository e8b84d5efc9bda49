"""Finds the content folders' entries by listing them: a new file is a new entry, nothing is registered by hand.

Content is what has a proper name: zoo rows (`model_zoo/*.yaml`) and their parts, builders (`data_builders/*.py`),
recipes (`train/recipes/*.yaml`) and benchmarks (`eval/*.py`). Names are file stems with `-` for `_`. The library never
imports content by name; it asks here, and a path to a file of one's own works wherever a name does.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from mminstruct.errors import ConfigError, did_you_mean

T = TypeVar("T")


@dataclass(frozen=True)
class Kind:
    """One kind of content: what it is called, the package and subfolder that hold it, and the file ending."""

    label: str
    package: str
    subfolder: str
    suffix: str
    listing: str


MODEL = Kind("model", "mminstruct.model_zoo", "", ".yaml", "mminstruct zoo list")
ENCODER = Kind(
    "vision encoder", "mminstruct.model_zoo", "parts/vision_encoders", ".yaml", "ls model_zoo/parts/vision_encoders"
)
LANGUAGE_MODEL = Kind(
    "language model", "mminstruct.model_zoo", "parts/language_models", ".yaml", "ls model_zoo/parts/language_models"
)
BUILDER = Kind("builder", "mminstruct.data_builders", "", ".py", "mminstruct build list")
RECIPE = Kind("recipe", "mminstruct.train", "recipes", ".yaml", "mminstruct train --list")
DEEPSPEED = Kind("DeepSpeed config", "mminstruct.train", "deepspeed", ".json", "ls train/deepspeed")
BENCHMARK = Kind("benchmark", "mminstruct.eval", "", ".py", "mminstruct eval --list")
TOOL = Kind("tool", "mminstruct.serving.toolbox", "", ".py", "ls mminstruct/serving/toolbox")
DEMO = Kind("demo", "mminstruct.demo", "", ".py", "mminstruct demo --help")


def folder(kind: Kind) -> Path:
    """The folder of this kind's entries (in a checkout: the repository's own folder)."""
    spec = importlib.util.find_spec(kind.package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"the package {kind.package} is not installed; run: pip install -e . in the repository")
    return Path(next(iter(spec.submodule_search_locations))) / kind.subfolder


def names(kind: Kind, pattern: str = "*") -> list[str]:
    """Sorted names of all entries of a kind that match a shell pattern."""
    found = [
        path.stem.replace("_", "-")
        for path in folder(kind).glob(f"*{kind.suffix}")
        if not path.name.startswith(("_", "."))
    ]
    return sorted(name for name in found if fnmatch.fnmatchcase(name, pattern))


def find(kind: Kind, name: str) -> Path:
    """The file of an entry, by name or by path. Raises `ConfigError` with the nearest names."""
    given = Path(name)
    if given.suffix == kind.suffix:
        if given.is_file():
            return given
        raise ConfigError(f"the {kind.label} file {name} does not exist; check the path, or see: {kind.listing}")
    known = names(kind)
    if name not in known:
        raise ConfigError(f"no {kind.label} is called {name!r}.{did_you_mean(name, known)} See: {kind.listing}")
    for path in folder(kind).glob(f"*{kind.suffix}"):
        if path.stem.replace("_", "-") == name:
            return path
    raise ConfigError(f"the {kind.label} {name!r} vanished while it was being read")


def module(kind: Kind, name: str) -> ModuleType:
    """The Python module of a builder or a benchmark, imported from its file."""
    path = find(kind, name)
    in_package = path.parent.resolve() == folder(kind).resolve()
    full_name = f"{kind.package}.{path.stem}" if in_package else f"mminstruct_user_{kind.label}_{path.stem}"
    if in_package:
        return importlib.import_module(full_name)
    spec = importlib.util.spec_from_file_location(full_name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is not a Python module")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[full_name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def content_class(kind: Kind, name: str, base: type[T]) -> type[T]:
    """The subclass of `base` that a builder's or a benchmark's file calls `BUILDER` or `BENCHMARK`.

    Raises:
        ConfigError: no such file, or one without it.
    """
    variable = kind.label.upper()
    found = getattr(module(kind, name), variable, None)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(
            f"{find(kind, name)} has no {variable}; "
            f"set {variable} to a subclass of mminstruct's {base.__name__} at its end"
        )
    return found
