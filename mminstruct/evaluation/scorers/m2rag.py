"""M2RAG (NEUIR): captions, answers and verdicts on facts that a model gives with retrieved passages and pictures.

    captions, multi-modal questions ── BLEU, ROUGE-L, CIDEr-D as `captions` ──▶ `generation`   score = ROUGE-L
    facts ── support | refute | insufficient ── accuracy, macro F1 ──▶ `fact-verification`  score = accuracy

After arXiv 2502.17297 and NEUIR/M2RAG at 279f82c. Of its programs `generation.py` and `classification.py` only
the names were to be had; what is computed is what the paper names, and what that leaves open is decided:

- Factify's five classes are three: the part before "_" ("Support_Text" is "support"). The repository means to do so,
  but compares where it should assign, so that five classes stay.
- The answer's class is the first of the three words in it, in lower case; none is unparsed and wrong.
- F1 is the mean over the classes that are in the gold answers; a class that is never given and never right has 0.
- Image reranking is scored by FID of picture features, which needs a network; it is not here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import AliasChoices, Field

from mminstruct.errors import DataError
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_lines_or_list, records, unique, unique_items
from mminstruct.evaluation.parsing.ptb import caption_tokens
from mminstruct.evaluation.scorers import captions
from mminstruct.evaluation.scorers.metric import (
    Figures,
    Metric,
    Predictions,
    Variant,
    Verdict,
    each,
    mean,
)

CLASSES = ("support", "refute", "insufficient")
_CLASS = re.compile("|".join(CLASSES))
_judge_captions = captions.judge(caption_tokens)


def judge_generation(items: Sequence[Item], predictions: Predictions) -> list[Verdict]:
    """As `captions` does; a verdict's score is ROUGE-L, and CIDEr is the last of its parts."""
    return [
        Verdict(verdict.parts[-1], verdict.answer, verdict.parsed, (*verdict.parts, verdict.score))
        for verdict in _judge_captions(items, predictions)
    ]


def total_generation(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    """The figures of `captions` with ROUGE-L as the score."""
    as_captions = [Verdict(verdict.parts[-1], parts=verdict.parts[:-1]) for verdict in verdicts]
    found = captions.total([Item(item.id) for item in items], as_captions)
    return found | {"score": found["ROUGE_L"]}


def named_class(text: str) -> str | None:
    """The first class that a text names, None where it names none."""
    found = _CLASS.search(text.lower())
    return None if found is None else found[0]


def judge_fact(text: str, item: Item) -> Verdict:
    """1 where the classes agree. The parts are the places of the gold and the given class in `CLASSES`, or -1."""
    gold, given = _place(item), named_class(text)
    place = -1.0 if given is None else float(CLASSES.index(given))
    return Verdict(float(place == gold), answer=given, parsed=given is not None, parts=(gold, place))


def _place(item: Item) -> float:
    gold = named_class(item.answers[0])
    if gold is None:
        raise DataError(f"item {item.id}: {item.answers[0]!r} is none of {', '.join(CLASSES)}; give Factify's category")
    return float(CLASSES.index(gold))


def total_facts(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    """Accuracy, macro F1, and F1 of each class that is in the gold answers."""
    found, scores = mean(items, verdicts), []
    pairs = [verdict.parts or (_place(item), -1.0) for item, verdict in zip(items, verdicts, strict=True)]
    by_class: Figures = {}
    for place, name in enumerate(CLASSES):
        gold, given = (sum(pair[side] == place for pair in pairs) for side in (0, 1))
        if gold:
            both = sum(pair[0] == pair[1] == place for pair in pairs)
            scores.append(2 * both / (gold + given))
            by_class[f"F1 {name}"] = scores[-1]
    return found | {"F1": sum(scores) / len(scores) if scores else None} | by_class


class _Gold(Official):
    id: int | str
    answer: str | tuple[str, ...] = Field(
        validation_alias=AliasChoices("answer", "category", "image_caption", "caption")
    )
    query: str = ""
    claim: str = ""
    document: str = ""
    image_path: str = ""
    claim_image: str = ""
    document_image: str = ""


class _Output(Official):
    id: int | str
    text: str


def read_gold(path: Path) -> list[Item]:
    """Lines of `{id, answer: [text]}`, `{id, category}` or `{id, image_caption}`, as the test files have them.

    The question is `query` or `claim`; images, as paths, are that of the caption, or the claim's and the document's.
    """

    def item(place: str, line: _Gold) -> Item:
        answers = (line.answer,) if isinstance(line.answer, str) else line.answer
        names = [name for name in (line.image_path, line.claim_image, line.document_image) if name]
        return Item(
            id=str(line.id),
            images=tuple(Path(name) for name in names),
            question=line.query or line.claim,
            answers=answers,
            facts={"document": line.document} if line.document else {},
        )

    return unique_items((place, item(place, line)) for place, line in records(json_lines_or_list(path), _Gold))


def read_outputs(path: Path) -> dict[str, str]:
    """Lines of `{id, text}`, as the repository's inference writes them: id -> text."""
    return unique((place, str(line.id), line.text) for place, line in records(json_lines_or_list(path), _Output))


METRIC = Metric(
    name="m2rag",
    summary="Captions, answers or verdicts on facts given with retrieved passages.",
    variants=(
        Variant(
            "generation",
            "arXiv 2502.17297, captions and questions: BLEU, ROUGE-L and CIDEr as pycocoevalcap computes them.",
            judge_generation,
            total_generation,
        ),
        Variant(
            "fact-verification",
            "arXiv 2502.17297, facts: accuracy and macro F1 over support, refute and insufficient.",
            each(judge_fact),
            total_facts,
        ),
    ),
    files="lines {id, answer} or {id, category} or {id, image_caption}, and lines {id, text}",
    gold=read_gold,
    predictions=read_outputs,
)
