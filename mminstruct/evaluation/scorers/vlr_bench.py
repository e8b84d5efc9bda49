"""VLR-Bench: whether an answer from retrieved passages has both keywords, by language, and how close it is to the gold.

    answer ── lower case, "<|eot_id|>" removed ── holds keyword 1 and keyword 2? ──▶ KMS (score), KMS en, KMS ko, KMS zh

Facts of MLP-Lab/VLR-Bench, src/eval.py: a keyword counts wherever its letters stand, in the middle of a word too; both
are needed; the share is of all answers (`official`). The first program, eval.py, divides by 300 whatever the file holds
(`of-300`), so that a part of the benchmark scores low; a language has 300 questions.

ROUGE-1, ROUGE-2, ROUGE-L (F1, mean) and BLEU (corpus, orders 1 to 4, no smoothing) are further figures, on words, and
on single characters of Chinese, Japanese and Korean. The official ones are on the ids of the evaluated model's own
tokenizer, and ROUGE's is the middle of a random bootstrap, so these are not the same numbers. BERTScore needs a model.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field

from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_lines_or_list, record, records, unique, unique_items
from mminstruct.evaluation.parquet import any_rows
from mminstruct.evaluation.parsing.ngrams import ORDERS, added, bleu_parts, common_subsequence, ngrams
from mminstruct.evaluation.scorers.metric import Figures, Metric, Variant, Verdict, each

QUESTIONS = 300
END = "<|eot_id|>"
_PASSAGE = re.compile(r"passage_?\d")
_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


class Keywords(Official):
    """The facts of an item."""

    keywords: tuple[str, ...] = Field(min_length=1)


def judge(text: str, item: Item) -> Verdict:
    """1 where all keywords are in the answer. The parts are three ROUGE figures and `bleu_parts`."""
    answer = text.lower().replace(END, "").strip()
    keywords = record(f"item {item.id}: facts", dict(item.facts), Keywords).keywords
    found = all(keyword.lower() in answer for keyword in keywords)
    gold = words(item.answers[0] if item.answers else "")
    mine = words(answer)
    rouge = (overlap_f1(mine, gold, 1), overlap_f1(mine, gold, 2), f1(common_subsequence(mine, gold), mine, gold))
    return Verdict(float(found), answer=answer, parts=(*rouge, *bleu_parts(mine, [gold])))


def words(text: str) -> list[str]:
    """Lower case words; characters of Chinese, Japanese and Korean one by one."""
    return _WORDS.findall(text.lower())


def f1(common: float, mine: Sequence[object], gold: Sequence[object]) -> float:
    """F1 of a number of common things out of two lists; 0 where there are none."""
    return 2 * common / (len(mine) + len(gold)) if common else 0.0


def overlap_f1(mine: Sequence[str], gold: Sequence[str], order: int) -> float:
    """ROUGE-N: F1 of the n-grams of one order that both have."""
    first, second = ([gram for gram in ngrams(side, order).elements() if len(gram) == order] for side in (mine, gold))
    return f1((Counter(first) & Counter(second)).total(), first, second)


def corpus_bleu(sums: Sequence[float]) -> float:
    """BLEU of summed `bleu_parts`: 0 where an order has no match; Papineni's brevity penalty."""
    count, reference, there, right = sums[0], sums[1], sums[2:6], sums[6:10]
    if not all(right):
        return 0.0
    precision = math.exp(math.fsum(math.log(right[o - 1] / there[o - 1]) for o in ORDERS) / len(ORDERS))
    return precision * (1.0 if count > reference else math.exp(1 - reference / count))


Whole = Callable[[int, int], int]
"""(answers, languages) -> how many answers there should be."""


def total_of(whole: Whole) -> Callable[[Sequence[Item], Sequence[Verdict]], Figures]:
    """`total` with shares of so many answers."""

    def share(verdicts: Sequence[Verdict], languages: int = 1) -> float | None:
        right = math.fsum(verdict.score for verdict in verdicts)
        return right / whole(len(verdicts), languages) if verdicts else None

    def total(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
        by_language: dict[str, list[Verdict]] = defaultdict(list)
        for item, verdict in zip(items, verdicts, strict=True):
            by_language[item.kind].append(verdict)
        found: Figures = {"score": share(verdicts, len(by_language))}
        found |= {f"KMS {kind}": share(group) for kind, group in sorted(by_language.items()) if kind}
        return found | _closeness([verdict.parts for verdict in verdicts if verdict.parts], len(verdicts))

    return total


def _closeness(parts: Iterable[Sequence[float]], count: int) -> Figures:
    sums = added(parts)
    names = ("ROUGE-1", "ROUGE-2", "ROUGE-L")
    if not sums:
        return dict.fromkeys([*names, "BLEU"])
    return {**{name: sums[place] / count for place, name in enumerate(names)}, "BLEU": corpus_bleu(sums[3:])}


# --- files ------------------------------------------------------------------------------------------------------------


class _Gold(Official):
    """A row: of the file of results, or of the data set, which has the question and its passages as well."""

    question: str = Field("", validation_alias=AliasChoices("question", "query", "instruction", "input"))
    passages: tuple[str, ...] = ()
    label: str = Field(validation_alias=AliasChoices("label", "output"))
    first: str = Field(validation_alias=AliasChoices("answer_keyword1", "keyword1"))
    second: str = Field(validation_alias=AliasChoices("answer_keyword2", "keyword2"))
    language: str = ""
    id: int | str | None = None


class _Result(Official):
    result: str
    id: int | str | None = None


def read_gold(path: Path) -> list[Item]:
    """`[{label, answer_keyword1, answer_keyword2, (language), (id)}]`; ids are places from 0 where there are none.

    The data set's own rows (`output`, `keyword1`, `keyword2`, and the question, its passages and image) serve too.
    """
    return unique_items((place, item) for place, item, _ in read_rows(path))


def read_rows(path: Path) -> Iterator[tuple[str, Item, Mapping[str, Any]]]:
    """(place, question, row) of each row; the row holds the image. Passages are `passages`, or `passage1` and so on."""
    for number, (place, row) in enumerate(any_rows(path)):
        line = record(place, row, _Gold)
        facts: dict[str, Any] = {"keywords": [line.first, line.second]}
        passages = line.passages or tuple(str(row[key]) for key in sorted(row) if _PASSAGE.fullmatch(key) and row[key])
        if passages:
            facts["passages"] = list(passages)
        yield (
            place,
            Item(
                id=_name(number, line.id),
                question=line.question,
                answers=(line.label,),
                kind=line.language,
                facts=facts,
            ),
            row,
        )


def read_results(path: Path) -> dict[str, str]:
    """`[{result, (id)}]`, mostly the same file as the gold one: id -> answer."""
    lines = enumerate(records(json_lines_or_list(path), _Result))
    return unique((place, _name(number, line.id), line.result) for number, (place, line) in lines)


def _name(number: int, given: int | str | None) -> str:
    return str(number if given is None else given)


METRIC = Metric(
    name="vlr-bench",
    summary="Share of answers that hold both keywords (KMS), by language; ROUGE and BLEU on words.",
    variants=(
        Variant(
            "official",
            "MLP-Lab/VLR-Bench, src/eval.py: both keywords, in lower case, anywhere in the answer.",
            each(judge),
            total_of(lambda answers, languages: answers),
        ),
        Variant(
            "of-300",
            "The same repository's first eval.py: divided by 300, the questions of one language, whatever is there.",
            each(judge),
            total_of(lambda answers, languages: QUESTIONS * languages),
        ),
    ),
    files="one array of {result, label, answer_keyword1, answer_keyword2} for both, or two with the same order or ids",
    gold=read_gold,
    predictions=read_results,
)
