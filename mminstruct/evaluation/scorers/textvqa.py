"""TextVQA: VQA accuracy on questions about text in images, by mmf's `TextVQAAccuracyEvaluator`.

    TextVQA_0.5.1_val.json {"data": [{question_id, image_id, question, answers [10]}]}       gold
    [{question_id, answer}]                                                                  a submission
    {"question_id": image_id, "prompt": "question\\nReference OCR token: ...", "text": ...}   LLaVA's answers, by lines

- `evalai`: facebookresearch/mmf, utils/m4c_evaluators.py, which the EvalAI server runs and LLaVA's eval_textvqa.py
  copies: both sides by EvalAI's steps, annotators by their place, and ten of them asserted. lmms-eval's tasks/textvqa
  is the same rule.
- `official-2021`, `official-2016`: the scorer of VQA on the same file; mmf's issue 109 has 26.41 by it for 27.4.
- `vlmevalkit`, `vlmevalkit-2024`: as of VQA (`vqa.py`). The former scores "12." as wrong, which costs a model that ends
  its answers with a full stop many points.

LLaVA's file names the image and not the question; as its script does, an answer is joined to the last question of the
gold file with this image and, in lower case, the question that the prompt begins with. Its published numbers have OCR
tokens in the prompt, which is worth about 12 points and no matter of scoring.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from mminstruct.errors import DataError
from mminstruct.evaluation.answer_files import Answer, answers
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_list, records, unique, unique_items
from mminstruct.evaluation.scorers.metric import Metric, all_predicted
from mminstruct.evaluation.scorers.vqa import EVALAI, OFFICIAL_2016, OFFICIAL_2021, VLMEVALKIT, VLMEVALKIT_2024

_BY_IMAGE = "\n"  # begins the name of an answer that says which image and question it is about
_OLD_PROMPT = re.compile(r"Question: (.*?) Short answer:", re.DOTALL)


class _Question(Official):
    question_id: int | str
    image_id: int | str = ""
    question: str = ""
    answers: tuple[str, ...] = Field(min_length=10, max_length=10)
    set_name: str = ""


def read_questions(path: Path) -> list[Item]:
    """The questions of `TextVQA_0.5.1_val.json` or another split with answers."""
    return unique_items(
        (
            place,
            Item(
                id=str(line.question_id),
                question=line.question,
                answers=line.answers,
                cluster=str(line.image_id),
            ),
        )
        for place, line in records(json_list(path, "data"), _Question)
    )


def question_of_prompt(prompt: str) -> str | None:
    """The question in a prompt of LLaVA's scripts, in lower case; None where they would not find one."""
    lines = prompt.split("\n")
    if prompt.startswith("OCR tokens: "):
        found = _OLD_PROMPT.search(prompt)
        return found[1].lower() if found else None
    if "Reference OCR token: " in prompt and len(lines) == 3:
        return lines[1 if prompt.startswith("Reference OCR token:") else 0].lower()
    return lines[0].lower() if len(lines) == 2 else None


def read_answers(path: Path) -> dict[str, str]:
    """A submission, id -> answer; or LLaVA's answers, named by image, question and place in the file."""
    found = answers(path)
    return unique((line.place, _name(line, number), line.text) for number, line in enumerate(found))


def _name(answer: Answer, number: int) -> str:
    if not answer.id:
        raise DataError(f"{answer.place} has no question_id; say which question it answers")
    prompt = answer.record.get("prompt")
    if prompt is None:
        return answer.id
    question = question_of_prompt(prompt) if isinstance(prompt, str) else None
    if question is None:
        raise DataError(
            f"{answer.place}: no question is found in the prompt; give LLaVA's prompt or no 'prompt' at all"
        )
    return f"{_BY_IMAGE}{number}\n{answer.id}\n{question}"


def pairing(items: Sequence[Item], found: Mapping[str, str], path: Path) -> tuple[list[Item], list[str | None]]:
    """By id, every question predicted; or LLaVA's answers in their order, each with its question.

    Raises:
        DataError: an answer is about no question of the gold file, or (by id) a question has no answer.
    """
    if not any(name.startswith(_BY_IMAGE) for name in found):
        return all_predicted(items, found, path)
    known = {f"{item.cluster}\n{item.question.lower()}": item for item in items}
    kept = []
    for name in found:
        key = name.removeprefix(_BY_IMAGE).partition("\n")[2]
        if key not in known:
            image, _, question = key.partition("\n")
            raise DataError(f"{path}: the gold file has no question {question!r} on the image {image!r}")
        kept.append(known[key])
    return kept, list(found.values())


METRIC = Metric(
    name="textvqa",
    summary="TextVQA accuracy: agreement with ten annotators, each left out in turn.",
    variants=(EVALAI, OFFICIAL_2021, OFFICIAL_2016, VLMEVALKIT, VLMEVALKIT_2024),
    files="TextVQA_0.5.1_val.json, and a submission [{question_id, answer}] or LLaVA's answers file",
    gold=read_questions,
    predictions=read_answers,
    pairing=pairing,
)
