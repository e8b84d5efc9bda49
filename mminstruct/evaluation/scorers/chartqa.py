"""ChartQA: relaxed accuracy of answers about charts; numbers may be off by five per cent.

    test_human.json, test_augmented.json [{imgname, query, label}]            gold: a file, or a folder with both
    [{imgname, query, prediction}] | [{"answer", "annotation"}] | ["text"]    answers, by image and question or by order

- `pix2struct`: google-research/pix2struct, metrics.py, which everyone copied: "50%" is 0.5, so it is not "50"; "1,000"
  and "$5" are no numbers; a target "0" is a text, so "0.0" is wrong; 2008 is within five per cent of 2010; a final full
  stop costs a word everything and a number nothing.
- `mistral`: mistralai/mistral-evals, `ExplicitPromptRelaxedCorrectness`, and lm-eval's tasks/chartqa: what follows the
  last "answer:" counts, else the text is wrong; commas, dollars and final punctuation are deleted, per cents meant
  either way, and a gold letter asks for the first letter only. `mistral-anywhere` is its generous relative, and
  `mistral-relaxed` the rule without the search for "answer:".
- `vlmevalkit`: vqa_eval.py: pix2struct's rule after outer blanks of the prediction are deleted.
- `lmms-eval`: tasks/chartqa/utils.py: pix2struct's rule to the letter.

`score` is the mean over all questions; `human` and `augmented` are those of the two files, `average` that of both.
The files have no ids: answers without image and question must stand in the order of the gold file (of a folder: human,
then augmented). A file of both, [{"answer": text, "annotation": gold}] as Qwen-VL writes it, serves for both options.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pydantic import AliasChoices, Field, field_validator

from mminstruct.errors import DataError
from mminstruct.evaluation.answer_files import Answer, answers
from mminstruct.evaluation.by_order import BY_ORDER, pairing
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_lines_or_list, records, table, unique, unique_items
from mminstruct.evaluation.parsing import relaxed
from mminstruct.evaluation.parsing.lists import listed
from mminstruct.evaluation.scorers.metric import Figures, Metric, Variant, Verdict, each, mean_with_kinds

SPLITS = ("human", "augmented")


class _Question(Official):
    imgname: str = ""
    query: str = Field(default="", validation_alias=AliasChoices("query", "question"))
    label: tuple[str, ...] = Field(validation_alias=AliasChoices("label", "annotation", "answer"), min_length=1)
    split: str = ""

    @field_validator("label", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


def read_questions(path: Path) -> list[Item]:
    """The items of a file, or of a folder's files of the two splits; `kind` is the split."""
    found: list[tuple[str, Item]] = []
    seen: Counter[str] = Counter()
    for split, file in _files(path):
        for place, line in records(_entries(file), _Question):
            key = f"{line.imgname}\n{line.query}" if line.imgname else str(len(found))
            seen[key] += 1
            name = key if seen[key] == 1 else f"{key}\n{seen[key]}"
            kind = next((known for known in SPLITS if known in line.split), split)
            item = Item(id=name, question=line.query, answers=line.label, kind=kind, cluster=line.imgname)
            found.append((place, item))
    return unique_items(found)


def _files(path: Path) -> list[tuple[str, Path]]:
    if not path.is_dir():
        return [(next((split for split in SPLITS if split in path.name), ""), path)]
    found = [(split, file) for split in SPLITS for file in sorted(path.glob(f"*{split}*.json"))]
    if not found or len(found) > len(SPLITS) or len({split for split, _ in found}) < len(found):
        raise DataError(f"{path} has {len(found)} files *human*.json and *augmented*.json; give one of each")
    return found


def _entries(path: Path) -> Iterator[tuple[str, object]]:
    if path.suffix != ".tsv":
        yield from json_lines_or_list(path)
        return
    for place, row in table(path):
        yield (
            place,
            {"query": row.get("question", ""), "label": listed(row.get("answer", "")), "split": row.get("split", "")},
        )


def read_answers(path: Path) -> dict[str, str]:
    """Answers by image and question, or by their order; of a folder, those of the splits' files."""
    found: list[tuple[str, str, str]] = []
    seen: Counter[str] = Counter()
    for _, file in _files(path):
        for line in answers(file, ()):
            name = _name(line) or f"{BY_ORDER}{len(found)}"
            seen[name] += 1
            found.append((line.place, name if seen[name] == 1 else f"{name}\n{seen[name]}", line.text))
    return unique(found)


def _name(line: Answer) -> str:
    image, query = line.record.get("imgname"), line.record.get("query", line.record.get("question"))
    return f"{image}\n{query}" if isinstance(image, str) and isinstance(query, str) else ""


def total(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    """The mean over all, over each split, and the mean of the splits' means."""
    figures = mean_with_kinds(items, verdicts)
    splits = [value for name, value in figures.items() if name in SPLITS and value is not None]
    return figures | ({"average": sum(splits) / len(splits)} if len(splits) == len(SPLITS) else {})


def _variant(name: str, source: str, right: Callable[[str, str], bool]) -> Variant:
    def judge(text: str, item: Item) -> Verdict:
        return Verdict(float(any(right(text, target) for target in item.answers)), answer=text)

    return Variant(name, source, each(judge), total)


def _judge_final(text: str, item: Item) -> Verdict:
    found = relaxed.final_answer(text)
    if not found:
        return Verdict(0.0, parsed=False)
    return Verdict(float(any(relaxed.mistral(found, target) for target in item.answers)), answer=found)


def _judge_anywhere(text: str, item: Item) -> Verdict:
    if relaxed.final_answer(text):
        return _judge_final(text, item)
    return Verdict(float(relaxed.anywhere(text, item.answers)), parsed=False)


METRIC = Metric(
    name="chartqa",
    summary="ChartQA relaxed accuracy: numbers within five per cent, other answers to the letter.",
    variants=(
        _variant("pix2struct", "google-research/pix2struct, metrics.py, relaxed_correctness.", relaxed.pix2struct),
        Variant(
            "mistral",
            "mistral-evals, ExplicitPromptRelaxedCorrectness, and lm-eval: what follows the last answer: counts.",
            each(_judge_final),
            total,
        ),
        _variant(
            "mistral-relaxed",
            "mistral-evals, RelaxedCorrectness: the whole text counts; marks deleted, per cents either way.",
            relaxed.mistral,
        ),
        Variant(
            "mistral-anywhere",
            "mistral-evals, AnywhereInAnswerRelaxedCorrectness: without answer: the gold may be anywhere.",
            each(_judge_anywhere),
            total,
        ),
        _variant(
            "vlmevalkit",
            "VLMEvalKit, vqa_eval.py: pix2struct's rule after the prediction's outer blanks are deleted.",
            lambda text, target: relaxed.pix2struct(text.strip(), target),
        ),
        _variant("lmms-eval", "lmms-eval, tasks/chartqa: pix2struct's rule to the letter.", relaxed.pix2struct),
    ),
    files="test_human.json, test_augmented.json or a folder with both; answers by imgname and query or in their order",
    gold=read_questions,
    predictions=read_answers,
    pairing=pairing,
)
