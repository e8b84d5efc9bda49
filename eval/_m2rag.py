"""What M2RAG's three benchmarks share: queries, what was retrieved for them, and how both become a prompt.

    QUERIES.jsonl {id, ...}, RETRIEVED.jsonl {id, cands: [text | {image_path, image_caption}]}, the first `top_k`
        ─▶ pictures of the question, pictures that were retrieved, then the text

Prompts are put together as in NEUIR/M2RAG, src/minicpmv/inference_data.py: pictures first, lists "[1] ... [2] ...",
"null" where nothing was retrieved, texts of at most 400 words. The wording is this project's, as that of the builder
mm-rait, so numbers are not comparable with published ones to the digit.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import AliasChoices, Field

from mminstruct.building.retrieval import cut
from mminstruct.config import Config
from mminstruct.conversation import Conversation
from mminstruct.errors import ConfigError, DataError
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol, one_question
from mminstruct.evaluation.local_files import Pictures, found
from mminstruct.evaluation.official import Official, json_lines, records
from mminstruct.evaluation.scorers.m2rag import read_gold

WORDS = 400
WITH_RETRIEVAL = "retrieved"


class _Picture(Official):
    image_path: str
    image_caption: str = ""


class _Retrieved(Official):
    id: int | str
    cands: list[str | _Picture] = Field(validation_alias=AliasChoices("cands", "retrieval_text"))


def protocols(tokens: int, retrieved: str, alone: str) -> tuple[Protocol, Protocol]:
    """The two protocols of a task."""
    source = "NEUIR/M2RAG, src/minicpmv/inference_data.py in structure, this project's wording"
    return (
        Protocol(WITH_RETRIEVAL, f"{source}; top_k retrieved texts and pictures", tokens, retrieved),
        Protocol("no-retrieval", f"{source}; what the model knows by itself", tokens, alone),
    )


class M2rag(Benchmark, abc.ABC):
    """One task; subclasses have its prompts.

    Attributes:
        own_images: how many of the query's images are shown (the document's picture of a claim is not).
    """

    own_images: ClassVar[int] = 1
    licence = "MIT (NEUIR/M2RAG); the pictures are WebQA's and Factify's"

    class Options(Config):
        """The queries, what was retrieved, the folder of images (left out: that of the queries), and how many."""

        queries: Path
        retrieved: Path | None = None
        images: Path | None = None
        top_k: int = Field(default=5, ge=1)

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or an image is missing, `ConfigError` where `retrieved` is not given."""
        near = self._retrieved() if self.protocol.name == WITH_RETRIEVAL else None
        items = read_gold(found(self.options.queries, self.data))
        pictures = Pictures(self.options.images or self.options.queries.absolute().parent, self.data)
        for item in items:
            shown = [str(path) for path in item.images[: self.own_images]]
            facts: dict[str, Any] = {}
            if near is not None:
                if item.id not in near:
                    raise DataError(f"{self.options.retrieved} has no line of the query {item.id!r}; retrieve for all")
                candidates = near[item.id][: self.options.top_k]
                found_pictures = [one for one in candidates if isinstance(one, _Picture)]
                shown += [one.image_path for one in found_pictures]
                facts["captions"] = [one.image_caption for one in found_pictures if one.image_caption]
                facts["texts"] = [cut(one, WORDS) for one in candidates if isinstance(one, str)]
            yield replace(item, images=tuple(pictures.named(name) for name in shown), facts=facts)

    def _retrieved(self) -> dict[str, list[str | _Picture]]:
        if self.options.retrieved is None:
            raise ConfigError(f"{self.name}: give retrieved=FILE with what was found, or protocol=no-retrieval")
        lines = records(json_lines(found(self.options.retrieved, self.data)), _Retrieved)
        return {str(line.id): line.cands for _, line in lines}

    def conversation(self, item: Item) -> Conversation:
        parts = {"question": item.question}
        if self.protocol.name == WITH_RETRIEVAL:
            parts |= {"captions": numbered(item.facts["captions"]), "texts": numbered(item.facts["texts"])}
        return one_question(item, ("\n" if item.images else "") + self.protocol.prompt.format(**parts))


def numbered(texts: Sequence[str]) -> str:
    """ "[1] ... [2] ...", or "null"."""
    return " ".join(f"[{number}] {one}" for number, one in enumerate(texts, start=1)) or "null"
