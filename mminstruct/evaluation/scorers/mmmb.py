"""MMMB (Parrot): the same multiple choice questions in six languages, 2,000 in each, by CircularEval.

    MMMB_en.tsv, MMMB_ar.tsv, ... ── as MMBench, language by language ──▶ accuracy of each ── mean ──▶ score

The rule is MMBench's (AIDC-AI/Parrot has a copy of VLMEvalKit of its own): see `mmbench`. A gold file is the TSV of one
language, or a folder with one a language; a folder of predictions has one a language too. The language is the last word
of ar, cn, en, pt, ru, tr in a file's name ("Parrot-7B_MMMB_en.tsv"). Figures: each language. With several languages the
score is the mean of theirs, so each counts alike however many questions are predicted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mminstruct.errors import DataError
from mminstruct.evaluation.circular import Select, first_passes, judge_letters, questions
from mminstruct.evaluation.figures import part_means
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import unique, unique_items
from mminstruct.evaluation.option_tables import item_of, known_and_predicted, predictions_of, rows
from mminstruct.evaluation.parsing.letters import vlmevalkit_letter, vlmevalkit_letter_2024, vlmevalkit_letter_2025
from mminstruct.evaluation.scorers.metric import Figures, Metric, Total, Variant, Verdict, mean

LANGUAGES = ("ar", "cn", "en", "pt", "ru", "tr")
_WORDS = re.compile(r"[a-z]+")


def language_of(item: Item) -> str:
    """The language in an item's id, "en/17"; empty where one file alone was read."""
    return item.id.partition("/")[0] if "/" in item.id else ""


def _total(select: Select) -> Total:
    def total(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
        kept, hits = select(items, verdicts)
        languages = part_means(kept, hits, lambda item: filter(None, (language_of(item),)))
        shares = [share for share in languages.values() if share is not None]
        score = math.fsum(shares) / len(shares) if shares else mean(kept, hits)["score"]
        return {"score": score} | languages

    return total


def read_gold(path: Path) -> list[Item]:
    """The questions of one TSV, or of a folder with one a language."""
    return unique_items((place, item) for place, item, _ in read_rows(path))


def read_rows(path: Path) -> Iterator[tuple[str, Item, Mapping[str, str]]]:
    """(place, question, row) of each row; the row holds the image."""
    for file, prefix in _files(path):
        yield from ((place, item_of(place, row, prefix), row) for place, row in rows(file))


def read_answers(path: Path) -> dict[str, str]:
    """id -> text of one file of predictions, or of a folder with one a language."""
    return unique(entry for file, prefix in _files(path) for entry in predictions_of(file, prefix))


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    if not path.is_dir():
        yield path, ""
        return
    found: dict[str, Path] = {}
    for file in sorted(path.iterdir()):
        words = [word for word in _WORDS.findall(file.stem.lower()) if word in LANGUAGES]
        if words and file.is_file():
            if words[-1] in found:
                raise DataError(f"{path} has two files of the language {words[-1]!r}; leave one in the folder")
            found[words[-1]] = file
    if not found:
        raise DataError(
            f"{path} has no file whose name says a language ({', '.join(LANGUAGES)}); name them MMMB_en.tsv"
        )
    yield from ((file, f"{language}/") for language, file in sorted(found.items()))


METRIC = Metric(
    name="mmmb",
    summary="Accuracy on MMMB: multiple choice in six languages, right in every rotation of the options.",
    variants=(
        Variant(
            "exact-matching",
            "As mmbench.exact-matching for each language; the score is the languages' mean.",
            judge_letters(vlmevalkit_letter),
            _total(questions),
        ),
        Variant(
            "exact-matching-2025",
            "As mmbench.exact-matching-2025 for each language.",
            judge_letters(vlmevalkit_letter_2025),
            _total(questions),
        ),
        Variant(
            "exact-matching-2024",
            "As mmbench.exact-matching-2024, the matching of Parrot's own copy of VLMEvalKit.",
            judge_letters(vlmevalkit_letter_2024),
            _total(questions),
        ),
        Variant(
            "vanilla",
            "As mmbench.vanilla for each language: one pass, the first order of the options.",
            judge_letters(vlmevalkit_letter),
            _total(first_passes),
        ),
    ),
    files="the TSV of a language, or a folder with one a language; tables with a column prediction alike",
    gold=read_gold,
    predictions=read_answers,
    pairing=known_and_predicted,
)
