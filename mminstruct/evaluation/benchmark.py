"""What a benchmark is: items, the prompt asked about each, how long an answer may be, and which scorers judge it.

    items() ─▶ Item(id, images, question, answers, ...)
    conversation(item) ─▶ Conversation (the pinned prompt: one user turn, images first, no answer)
    scorer(items, predictions) ─▶ Score

A benchmark is one file in `eval/` with a subclass of `Benchmark` called `BENCHMARK`; a path to a file of one's own
works wherever a name does.
"""

from __future__ import annotations

import abc
import itertools
from collections.abc import Iterator, Sequence
from typing import ClassVar

from mminstruct import catalog
from mminstruct.config import Config, apply_overrides, validate
from mminstruct.conversation import Conversation, Media, Message, Part, image, text
from mminstruct.errors import DataError
from mminstruct.evaluation.item import Item


class Benchmark(abc.ABC):
    """The contract; `BENCHMARK` in each file of `eval/` is a subclass.

    Attributes:
        name: the file's name with `-` for `_`.
        summary: one line on what is asked.
        primary_scorer: name of the scorer that gives `accuracy`.
        further_scorers: names of scorers reported beside it.
        max_new_tokens: the longest answer that is generated.
        options: what `key=value` sets; subclasses declare their own `Options`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    primary_scorer: ClassVar[str]
    further_scorers: ClassVar[tuple[str, ...]] = ()
    max_new_tokens: ClassVar[int]

    class Options(Config):
        """No options."""

    options: Config

    def __init__(self, options: Config | None = None) -> None:
        self.options = options if options is not None else validate(self.Options, {}, where=f"options of {self.name}")

    @property
    def key(self) -> str:
        """The name as a key of reports and as a folder: `_` for `-`."""
        return self.name.replace("-", "_")

    @property
    def scorer_names(self) -> tuple[str, ...]:
        return (self.primary_scorer, *self.further_scorers)

    @abc.abstractmethod
    def items(self) -> Iterator[Item]:
        """All questions, in the benchmark's own order, those about one image together where that can be."""

    @abc.abstractmethod
    def conversation(self, item: Item) -> Conversation:
        """The prompt: what the model is shown and asked. Media paths are absolute; there is no answer in it."""

    def questions(self, limit: int | None = None) -> list[Item]:
        """The first `limit` items (all of them for None), checked.

        Raises:
            DataError: no items, an id given twice, or an item without gold answers.
        """
        found = list(itertools.islice(self.items(), limit))
        if not found:
            raise DataError(f"{self.name}: there are no questions; check the data and the limit")
        seen: set[str] = set()
        for item in found:
            if item.id in seen:
                raise DataError(f"{self.name}: two questions have the id {item.id!r}; ids must differ")
            if not item.answers:
                raise DataError(f"{self.name}: question {item.id!r} has no gold answers; add one or drop the question")
            seen.add(item.id)
        return found


def one_question(item: Item, prompt: str) -> Conversation:
    """A conversation of one user turn: the item's images, then the prompt's text."""
    parts: list[Part] = [image(index) for index in range(len(item.images))]
    return Conversation(
        id=item.id,
        messages=[Message(role="user", content=[*parts, text(prompt)])],
        media=[Media(path=str(path)) for path in item.images],
        task=item.kind or None,
    )


def benchmark_class(name: str) -> type[Benchmark]:
    """The class of a benchmark, by name or by the path of its file (`catalog.content_class`)."""
    return catalog.content_class(catalog.BENCHMARK, name, Benchmark)  # type: ignore[type-abstract]


def load_benchmark(name: str, overrides: Sequence[str] = ()) -> Benchmark:
    """The benchmark of a name or a file, with `key=value` options.

    Raises:
        ConfigError: no such benchmark, or an option that it does not have or that does not fit.
    """
    found = benchmark_class(name)
    options = validate(found.Options, apply_overrides({}, overrides), where=f"options of {found.name}")
    return found(options)
