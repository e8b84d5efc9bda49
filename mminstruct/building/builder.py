"""What a builder is: items in, conversations out, in an order and with bytes that depend on its options only.

    Builder(options).items() ─▶ Item, Item, ...         one picture, page or clip each, found without any model
    Builder.make(item, job)  ─▶ Conversation, ...       pure steps between `job.ask`s; files by `job.save`

Items are made side by side and written in their own order. A builder is one file in `data_builders/` with a subclass of
`Builder` called `BUILDER`; a path to a file of one's own works wherever a name does.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

from mminstruct import catalog
from mminstruct.config import Config, apply_overrides, validate
from mminstruct.conversation import Conversation, Provenance
from mminstruct.errors import MminstructError

if TYPE_CHECKING:
    from mminstruct.building.job import Job


class Item(Protocol):
    """What one `make` works on. `id` is unique in a build and stays the same from run to run."""

    @property
    def id(self) -> str: ...


@dataclass(frozen=True)
class BadItem:
    """In the place of an item that its source cannot give: what names it there, and what is wrong with it."""

    id: str
    problem: MminstructError


T = TypeVar("T", bound=Item)


class Builder(abc.ABC, Generic[T]):
    """The contract; `BUILDER` in each file of `data_builders/` is a subclass.

    Attributes:
        name: the file's name with `-` for `_`.
        version: changes whenever the same options give other bytes.
        summary: one line on what is built.
        licence: of what is built, as its source states it.
        asks: whether `make` asks a model.
        options: what `key=value` sets; subclasses declare their own `Options`.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    summary: ClassVar[str]
    licence: ClassVar[str]
    asks: ClassVar[bool] = False

    class Options(Config):
        """No options."""

    options: Config

    def __init__(self, options: Config | None = None) -> None:
        self.options = options if options is not None else validate(self.Options, {}, where=f"options of {self.name}")

    @abc.abstractmethod
    def items(self) -> Iterable[T | BadItem]:
        """The items, in an order of their own, one at a time; see `mminstruct.building.rows` for those of files.

        Raises a `MminstructError` where a source is missing, or broken as a whole.
        """

    @abc.abstractmethod
    def make(self, item: T, job: Job) -> Iterable[Conversation]:
        """The conversations of one item, ids unique in the build; none where it is `drop`ped.

        Called in several threads at once. All chance comes from `job.random`. Raises a `MminstructError` where the item
        cannot be used.
        """

    def where(self, item: T) -> str:
        """The file and line that an item comes from, for what is said of its errors; "" where it has none."""
        return ""

    def count(self) -> int | None:
        """How many items there are, where that is known without going through them."""
        return None

    def provenance(self, parents: Sequence[str] = (), call_ids: Sequence[str] = ()) -> Provenance:
        """This builder as the origin of a record that was made of `parents` and of logged calls."""
        return Provenance(
            builder=self.name,
            version=self.version,
            parents=list(parents),
            call_ids=list(call_ids),
            licence=self.licence,
        )


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
