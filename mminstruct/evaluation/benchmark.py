"""What a benchmark is: items, the protocols by which they are asked, and the scorers that judge the answers.

    items() ─▶ Item(id, images, question, answers, ...)
    conversation(item) ─▶ Conversation (the protocol's prompt: one user turn, images first, no answer)
    request(item) ─▶ Request (the conversation, and how it is decoded)

A benchmark is one file in `eval/` with a subclass of `Benchmark` called `BENCHMARK`; a path to a file of one's own
works wherever a name does.
"""

from __future__ import annotations

import abc
import itertools
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from mminstruct import catalog
from mminstruct.config import Config, apply_overrides, validate
from mminstruct.conversation import Conversation, Media, Message, Part, VideoPart, image, text
from mminstruct.errors import ConfigError, DataError, did_you_mean
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.requests import Request

LETTERS = string.ascii_uppercase


@dataclass(frozen=True)
class Protocol:
    """One published way of asking a benchmark's questions, pinned under a name: scores by two protocols differ.

    Attributes:
        name: as `protocol=NAME` takes it.
        source: whose way it is: paper section, repository and file.
        max_new_tokens: the longest answer that is generated.
        prompt: the text behind the images; `{question}` and `{choices}` (a line "A. ..." each) are its places.
        stop: texts at which an answer ends.
        first_token: nothing is generated; the choice's letter whose token is the most probable is the answer.
    """

    name: str
    source: str
    max_new_tokens: int
    prompt: str = "{question}"
    stop: tuple[str, ...] = ()
    first_token: bool = False

    def text(self, item: Item) -> str:
        """The prompt about an item."""
        return self.prompt.replace("{choices}", lettered(item.choices)).replace("{question}", item.question)


class Benchmark(abc.ABC):
    """The contract; `BENCHMARK` in each file of `eval/` is a subclass.

    Attributes:
        name: the file's name with `-` for `_`.
        summary: one line on what is asked.
        primary_scorer: name of the scorer that gives the headline, `metric` or `metric.variant`.
        further_scorers: names of scorers reported beside it.
        protocols: how it may be asked; the first is the default.
        licence: of the data, and the source of that statement; "" where the data are the user's own.
        data: where the data come from, and which files are read.
        options: what `key=value` sets; subclasses declare their own `Options`.
        protocol: the protocol in use.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    primary_scorer: ClassVar[str]
    further_scorers: ClassVar[tuple[str, ...]] = ()
    protocols: ClassVar[tuple[Protocol, ...]]
    licence: ClassVar[str] = ""
    data: ClassVar[str] = ""

    class Options(Config):
        """No options."""

    options: Config

    def __init__(self, options: Config | None = None, protocol: str | None = None) -> None:
        self.options = options if options is not None else validate(self.Options, {}, where=f"options of {self.name}")
        self.protocol = self._protocol(protocol)

    def _protocol(self, name: str | None) -> Protocol:
        known = {protocol.name: protocol for protocol in self.protocols}
        if name is None:
            return self.protocols[0]
        if name not in known:
            raise ConfigError(f"{self.name} has no protocol {name!r}.{did_you_mean(name, known)}")
        return known[name]

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

    def conversation(self, item: Item) -> Conversation:
        """The prompt: what the model is shown and asked. Media paths are absolute; there is no answer in it."""
        return one_question(item, self.protocol.text(item))

    def conversation_after(self, item: Item, replies: Sequence[str]) -> Conversation:
        """The prompt of a later turn: `replies` are what the model said to `item.after`, in their order."""
        return self.conversation(item)

    def request(self, item: Item, replies: Sequence[str] = ()) -> Request:
        """The prompt and how it is decoded; `replies` as `conversation_after` takes them."""
        protocol = self.protocol
        return Request(
            self.conversation_after(item, replies),
            max_new_tokens=protocol.max_new_tokens,
            stop=protocol.stop,
            choices=tuple(LETTERS[: len(item.choices)]) if protocol.first_token else (),
        )

    def questions(self, limit: int | None = None) -> list[Item]:
        """The first `limit` items (all of them for None), checked.

        Raises:
            DataError: no items, an id given twice, an item without gold answers and facts to judge by, or in front of
                its earlier turns.
        """
        found = list(itertools.islice(self.items(), limit))
        if not found:
            raise DataError(f"{self.name}: there are no questions; check the data and the limit")
        seen: set[str] = set()
        for item in found:
            if item.id in seen:
                raise DataError(f"{self.name}: two questions have the id {item.id!r}; ids must differ")
            if not item.answers and not item.facts:
                raise DataError(f"{self.name}: question {item.id!r} has no gold answers; add one or drop the question")
            if not seen.issuperset(item.after):
                raise DataError(f"{self.name}: question {item.id!r} comes before its earlier turns; put them in order")
            seen.add(item.id)
        return found


def one_question(item: Item, prompt: str) -> Conversation:
    """A conversation of one user turn: the item's images, its videos, then the prompt's text."""
    media = [Media(path=str(path)) for path in item.images]
    media += [Media(kind="video", path=str(path)) for path in item.videos]
    parts: list[Part] = [image(index) for index in range(len(item.images))]
    parts += [VideoPart(index=len(item.images) + index) for index in range(len(item.videos))]
    return Conversation(
        id=item.id,
        messages=[Message(role="user", content=[*parts, text(prompt)])],
        media=media,
        task=item.kind or None,
    )


def lettered(choices: Sequence[str]) -> str:
    """A line "A. first choice" each."""
    return "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))


def benchmark_class(name: str) -> type[Benchmark]:
    """The class of a benchmark, by name or by the path of its file (`catalog.content_class`)."""
    return catalog.content_class(catalog.BENCHMARK, name, Benchmark)  # type: ignore[type-abstract]


def load_benchmark(name: str, overrides: Sequence[str] = ()) -> Benchmark:
    """The benchmark of a name or a file, with `key=value` options; `protocol=NAME` chooses one of its protocols.

    Raises:
        ConfigError: no such benchmark, or an option that it does not have or that does not fit.
    """
    found = benchmark_class(name)
    values = apply_overrides({}, overrides)
    protocol = values.pop("protocol", None)
    return found(validate(found.Options, values, where=f"options of {found.name}"), protocol)
