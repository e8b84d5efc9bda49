"""MM-RAIT, M2RAG's instruction data with retrieved pictures and texts (arXiv 2502.17297); no model is asked.

    query + corpora ──BM25, colours──▶ top k ─┐
    query + file of retrieved candidates ─────┴─▶ prompt with pictures before its slots ──▶ conversation, `passages`

image_cap     a picture; similar pictures and their captions                     ──▶ its caption
mmqa          a question; pictures with captions and texts, mixed as they come   ──▶ a sentence
fact_verify   a claim and a document, each with a picture; pictures and texts    ──▶ Support | Refute | Insufficient
image_rerank  a caption; k pictures, one of which it describes                   ──▶ that one's number

Own data are files in the layout that M2RAG publishes; without them the exhibits of an invented museum are asked about,
whose titles and names share words, so that what is retrieved beside the right one is near and wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mminstruct.building import BadItem, Builder, Job
from mminstruct.building.retrieval import cut
from mminstruct.config import Config, load_yaml, validate
from mminstruct.conversation import Conversation, Part, image, message, text
from mminstruct.data_builders.worlds.m2rag import CATEGORIES, Museum, Picture, Query, Task, queries_of_files
from mminstruct.data_builders.worlds.pictures import keep, placed
from mminstruct.errors import ConfigError

TASKS: tuple[Task, ...] = ("image_cap", "mmqa", "fact_verify", "image_rerank")
PROMPTS = Path(__file__).parent / "prompts" / "mm_rait.yaml"


class Wordings(Config):
    retrieved: list[str] = Field(min_length=1)
    plain: list[str]


class PromptFile(Config):
    image_cap: Wordings
    mmqa: Wordings
    fact_verify: Wordings
    image_rerank: Wordings


@functools.cache
def prompt_file() -> PromptFile:
    return validate(PromptFile, load_yaml(PROMPTS), where=str(PROMPTS))


class TaskFiles(Config):
    """One task's files of one's own; JSON lines in M2RAG's layout (docs/builders/mm-rait.md).

    Args:
        queries: the task's items.
        retrieved: `{"id", "cands"}` of each query; left out, the corpora are searched.
        texts: a corpus, `{"id", "text"}`.
        pictures: a corpus, `{"id" or "image_id", "image_path", "caption"}`.
    """

    queries: Path
    retrieved: Path | None = None
    texts: Path | None = None
    pictures: Path | None = None


class MmRait(Builder[Query]):
    name = "mm-rait"
    version = "4"
    summary = (
        "M2RAG's tasks with retrieved pictures and texts: captions, questions, claims to verify, pictures to rerank."
    )
    licence = "Apache-2.0"

    class Options(Config):
        """What is built.

        Args:
            tasks: of the world, or of the files that are given.
            count: how many queries of each task, where no files are given.
            corpus: how many exhibits the museum has that is searched.
            seed: of the museum.
            top_k: how many retrieved candidates stand in a prompt.
            retrieved_words, document_words: how long a retrieved text and the claim's document may be.
            require_gold: leave out questions of which the evidence was not retrieved; an answer that nothing supports
                teaches to make things up. M2RAG keeps them.
            image_cap, mmqa, fact_verify, image_rerank: files of one's own; then only their tasks are built.
            media_root: the folder that paths of pictures start from; left out, that of the file that names them.
        """

        tasks: list[Literal["image_cap", "mmqa", "fact_verify", "image_rerank"]] = Field(
            default=list(TASKS), min_length=1
        )
        count: int = Field(default=100, ge=1)
        corpus: int = Field(default=500, ge=10)
        seed: int = 0
        top_k: int = Field(default=5, ge=0)
        retrieved_words: int = Field(default=400, ge=1)
        document_words: int = Field(default=500, ge=1)
        require_gold: bool = True
        image_cap: TaskFiles | None = None
        mmqa: TaskFiles | None = None
        fact_verify: TaskFiles | None = None
        image_rerank: TaskFiles | None = None
        media_root: Path | None = None

    options: Options

    def items(self) -> Iterator[Query | BadItem]:
        files: dict[Task, TaskFiles | None] = {task: getattr(self.options, task) for task in TASKS}
        if not any(files.values()):
            museum = Museum(self.options.seed, self.options.corpus, self._wanted())
            for task in self.options.tasks:
                yield from museum.queries(task, self.options.count)
            return
        for task in self.options.tasks:
            found = files[task]
            if found is not None:
                yield from queries_of_files(
                    task,
                    queries=found.queries,
                    retrieved=found.retrieved,
                    texts=found.texts,
                    pictures=found.pictures,
                    media_root=self.options.media_root,
                    top_k=self._wanted(),
                )

    def where(self, item: Query) -> str:
        return item.where

    def _wanted(self) -> int:
        """One candidate more than is shown, since the document of a claim or the right picture may be among them."""
        return self.options.top_k + 1 if self.options.top_k else 0

    def make(self, item: Query, job: Job) -> Iterator[Conversation]:
        if item.task == "image_rerank" and self.options.top_k < 2:
            raise ConfigError("image_rerank chooses among pictures; let top_k be 2 at least, or leave the task out")
        retrieved = [one for one in item.retrieved if one not in (item.document, item.target)][: self.options.top_k]
        gold_found = any(_caption(one) == item.gold for one in retrieved)
        if self.options.require_gold and item.gold is not None and not gold_found:
            job.drop("evidence not retrieved")
            return
        answer = item.answer
        shown = [*item.pictures, *(one for one in retrieved if isinstance(one, Picture))]
        numbered = False
        if item.task == "image_rerank":
            if item.target is None or len(shown) < self.options.top_k - 1:
                job.drop("too few pictures retrieved")
                return
            place = item.number % self.options.top_k  # each place is the right one equally often
            shown = [*shown[:place], item.target, *shown[place : self.options.top_k - 1]]
            numbered, answer = True, f"[{place + 1}]"
        captions = [cut(one.caption, self.options.retrieved_words) for one in retrieved if isinstance(one, Picture)]
        texts = [cut(one, self.options.retrieved_words) for one in retrieved if isinstance(one, str)]
        slots = item.slots | {
            "captions": _listed(captions),
            "texts": _listed(texts),
            "document": cut(item.document or "", self.options.document_words),
        }
        wordings: Wordings = getattr(prompt_file(), item.task)
        prompt = job.random.choice(wordings.retrieved if self.options.top_k else wordings.plain)
        passages = [*(captions if "{captions}" in prompt else []), *(texts if "{texts}" in prompt else [])]
        media, places = placed([keep(picture.source, job, picture.where) for picture in shown])
        extra: dict[str, Any] = {} if item.category is None else {"category": item.category}
        yield Conversation(
            id=item.id,
            messages=[message("user", *_filled(prompt, slots, places, numbered)), message("assistant", answer)],
            media=media,
            task=f"mm-rait+{item.task}",
            passages=passages,
            answers=list(item.answers) or [answer],
            options=list(dict.fromkeys(CATEGORIES.values())) if item.task == "fact_verify" else None,
            extra=extra or None,
            provenance=job.provenance(item.parents),
        )


def _filled(prompt: str, slots: dict[str, str], places: Sequence[int], numbered: bool) -> list[Part | str]:
    """The prompt with its slots filled, and the pictures, one a line, where it has `{images}`."""
    before, _, behind = prompt.partition("{images}\n")
    content: list[Part | str] = [before.format(**slots)]
    for number, place in enumerate(places, start=1):
        content += [f"[{number}] "] if numbered else []
        content += [image(place), "\n"]
    content.append(behind.format(**slots))
    merged: list[Part | str] = []
    for part in content:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        else:
            merged.append(part)
    return [text(part) if isinstance(part, str) else part for part in merged if part != ""]


def _listed(texts: Sequence[str]) -> str:
    return " ".join(f"[{number}] {one}" for number, one in enumerate(texts, start=1)) or "null"


def _caption(candidate: Picture | str) -> str:
    return candidate if isinstance(candidate, str) else candidate.caption


BUILDER = MmRait
