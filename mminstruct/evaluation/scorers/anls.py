"""ANLS, average normalised Levenshtein similarity: DocVQA, InfographicVQA, ST-VQA.

    {"data": [{questionId, question, answers, ...}]}   gold; ST-VQA has question_id and file_path
    [{questionId, answer}]                             a submission

For each gold answer NL = edits / length; the best is taken, and similarities below one half count as 0.

- `rrc`: infographicsvqa_eval.py of the Robust Reading Competition, which DocVQA's server runs too. Both sides in lower
  case with single blanks for the edits, but *the length is that of the raw texts*, blanks and all (in upper case,
  where "ß" has two). Exactly 0.5 stays. Two empty texts score 1. lmms-eval's `anls` is the same.
- `mmf`: facebookresearch/mmf, `STVQAANLSEvaluator`, which LLaVA copies: lower case and outer blanks only, and the
  length of the same texts. On two empty texts it stops with a division by zero; here they score 1.
- `stvqa-paper`: Biten et al., "Scene text visual question answering" (arXiv 1905.13648), equation 1: 1 - NL where NL is
  *less than* 0.5, so exactly 0.5 is 0; upper case does not count, blanks do.
- `vlmevalkit`: `anls_compute` of its vqa_eval.py: as `rrc`, but the length too is that of the normalised texts.
- `vlmevalkit-2024`: the same before (and in its packages until May 2026 at least): exactly `rrc`.
- `pix2struct`: metrics.py of google-research/pix2struct: lower case and nothing else; exactly 0.5 stays.

Half a right number is half right: "13" for "12" scores 0.5 by all but the paper. Figures by answer type, evidence and
operation are given where the gold file has InfographicVQA's lists of them, under the official names; DocVQA's question
types under its own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType

from pydantic import AliasChoices, Field

from mminstruct.evaluation.answer_files import texts_by_id
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_list, record, records, table, unique_items
from mminstruct.evaluation.parsing.lists import listed
from mminstruct.evaluation.scorers.metric import Figures, Metric, Variant, Verdict, by_answers, mean
from mminstruct.evidence.measures import edit_distance

THRESHOLD = 0.5


def rrc(prediction: str, answers: Sequence[str]) -> float:
    """The competition's script; see the module's text."""
    found = _single_blanks(prediction)
    lengths = [max(len(answer.upper()), len(prediction.upper())) for answer in answers]
    edits = [edit_distance(_single_blanks(answer), found) for answer in answers]
    return _kept(1 - min(_share(each, length) for each, length in zip(edits, lengths, strict=True)))


def vlmevalkit(prediction: str, answers: Sequence[str]) -> float:
    """VLMEvalKit's; see the module's text."""
    return _kept(1 - min(_distance(_single_blanks(answer), _single_blanks(prediction)) for answer in answers))


def mmf(prediction: str, answers: Sequence[str]) -> float:
    """mmf's for ST-VQA; see the module's text."""
    found = prediction.lower().strip()
    return max(_kept(1 - _distance(answer.lower().strip(), found)) for answer in answers)


def pix2struct(prediction: str, answers: Sequence[str]) -> float:
    """pix2struct's; see the module's text."""
    distances = [_distance(answer.lower(), prediction.lower()) for answer in answers]
    return max(1 - distance if distance <= THRESHOLD else 0.0 for distance in distances)


def stvqa_paper(prediction: str, answers: Sequence[str]) -> float:
    """The formula of the paper; see the module's text."""
    distances = [_distance(answer.lower(), prediction.lower()) for answer in answers]
    return max(1 - distance if distance < THRESHOLD else 0.0 for distance in distances)


def _single_blanks(text: str) -> str:
    return " ".join(text.strip().lower().split())


def _share(edits: int, length: int) -> float:
    return edits / length if length else 0.0


def _distance(first: str, second: str) -> float:
    return _share(edit_distance(first, second), max(len(first), len(second)))


def _kept(similarity: float) -> float:
    return similarity if similarity >= THRESHOLD else 0.0


# --- files and figures ------------------------------------------------------------------------------------------------

TYPES = MappingProxyType(
    {
        "answer_type": MappingProxyType(
            {
                "image span": "Image-Span",
                "question span": "Question-Span",
                "multiple spans": "Multi-Span",
                "non span": "None span",
            }
        ),
        "evidence": MappingProxyType(
            {
                "table/list": "Table/list",
                "textual": "Text",
                "photo/pciture/visual_objects": "Visual/Layout",
                "figure": "Figure",
                "map": "Map",
            }
        ),
        "operation/reasoning": MappingProxyType(
            {"comparison": "Sorting", "arithmetic": "Arithmetic", "counting": "Counting"}
        ),
        "question_types": MappingProxyType({}),
    }
)
"""The gold file's lists of types, and what the official script prints for their values."""


class _Question(Official):
    question_id: int | str = Field(validation_alias=AliasChoices("questionId", "question_id", "index"))
    question: str = ""
    answers: tuple[str, ...] = Field(min_length=1)
    image: str = Field(default="", validation_alias=AliasChoices("image", "image_local_name", "file_path"))


class Facts(Official):
    """The lists of an item's types."""

    answer_type: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    operation_reasoning: tuple[str, ...] = Field(default=(), validation_alias="operation/reasoning")
    question_types: tuple[str, ...] = ()


def read_questions(path: Path) -> list[Item]:
    """The items of a gold file, or of VLMEvalKit's table."""
    if path.suffix == ".tsv":
        rows = table(path)
        entries = [(place, {**row, "answers": listed(row.get("answer", "")), "image": ""}) for place, row in rows]
    else:
        entries = list(json_list(path, "data"))
    found = []
    for (place, line), (_, value) in zip(records(entries, _Question), entries, strict=True):
        item = Item(
            id=str(line.question_id),
            question=line.question,
            answers=line.answers,
            cluster=line.image,
            facts={key: value[key] for key in TYPES if isinstance(value.get(key), list)},
        )
        record(place, dict(item.facts), Facts)
        found.append((place, item))
    return unique_items(found)


def total(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    """The mean over all, and over the questions of each type."""
    figures = mean(items, verdicts)
    scores: dict[str, list[float]] = defaultdict(list)
    for item, verdict in zip(items, verdicts, strict=True):
        if item.facts:
            record(f"the facts of {item.id!r}", dict(item.facts), Facts)
        for key, named in TYPES.items():
            for value in item.facts.get(key, ()):
                scores[f"{key} {named.get(value, value)}"].append(verdict.score)
    return figures | {name: math.fsum(found) / len(found) for name, found in sorted(scores.items())}


def _variant(name: str, source: str, score: Callable[[str, Sequence[str]], float]) -> Variant:
    return Variant(name, source, by_answers(score), total)


METRIC = Metric(
    name="anls",
    summary="ANLS: how near a text is to a gold answer by edits, nothing below one half.",
    variants=(
        _variant("rrc", "Robust Reading Competition, infographicsvqa_eval.py: lengths of the raw texts.", rrc),
        _variant("mmf", "facebookresearch/mmf, STVQAANLSEvaluator, and LLaVA: inner blanks count.", mmf),
        _variant(
            "stvqa-paper",
            "Biten et al., arXiv 1905.13648, equation 1: exactly one half is nothing, blanks count.",
            stvqa_paper,
        ),
        _variant("vlmevalkit", "VLMEvalKit, vqa_eval.py, anls_compute: lengths of the normalised texts.", vlmevalkit),
        _variant("vlmevalkit-2024", "The same before: lengths of the raw texts, as rrc.", rrc),
        _variant("pix2struct", "google-research/pix2struct, metrics.py, anls_metric: lower case only.", pix2struct),
    ),
    files='{"data": [{questionId, answers}]} of DocVQA, InfographicVQA or ST-VQA; a submission [{questionId, answer}]',
    gold=read_questions,
    predictions=texts_by_id,
)
