"""What a builder is: facts in, conversations out, in an order and with bytes that depend on its options only.

    Builder(options).build(folder) ─▶ Conversation, Conversation, ...      (media files written below `folder`)

A builder is one file in `data_builders/` with a subclass of `Builder` called `BUILDER`; a path to a file of one's own
works wherever a name does.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from mminstruct import catalog
from mminstruct.config import Config, apply_overrides, validate
from mminstruct.conversation import Conversation, Provenance


class Builder(abc.ABC):
    """The contract; `BUILDER` in each file of `data_builders/` is a subclass.

    Attributes:
        name: the file's name with `-` for `_`.
        version: changes whenever the same options give other bytes.
        summary: one line on what is built.
        licence: of what is built, as its source states it.
        options: what `key=value` sets; subclasses declare their own `Options`.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    summary: ClassVar[str]
    licence: ClassVar[str]

    class Options(Config):
        """No options."""

    options: Config

    def __init__(self, options: Config | None = None) -> None:
        self.options = options if options is not None else validate(self.Options, {}, where=f"options of {self.name}")

    @abc.abstractmethod
    def build(self, folder: Path) -> Iterator[Conversation]:
        """The conversations, ids unique, in an order of their own.

        Media files are written below `folder` before the record that names them is given; their paths are relative to
        it. Raises a `MminstructError` where a source is missing or broken.
        """

    def count(self) -> int | None:
        """How many conversations `build` will give, where that is known beforehand."""
        return None

    def provenance(self, parents: Sequence[str] = ()) -> Provenance:
        """This builder as the origin of a record that was made of `parents`."""
        return Provenance(builder=self.name, version=self.version, parents=list(parents), licence=self.licence)


def builder_class(name: str) -> type[Builder]:
    """The class of a builder, by name or by the path of its file (`catalog.content_class`)."""
    return catalog.content_class(catalog.BUILDER, name, Builder)  # type: ignore[type-abstract]


def load_builder(name: str, overrides: Sequence[str] = ()) -> Builder:
    """The builder of a name or a file, with `key=value` options.

    Raises:
        ConfigError: no such builder, or an option that it does not have or that does not fit.
    """
    found = builder_class(name)
    return found(validate(found.Options, apply_overrides({}, overrides), where=f"options of {found.name}"))
