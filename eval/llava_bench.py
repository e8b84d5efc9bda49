"""LLaVA-Bench in the wild (Liu et al., arXiv 2304.08485): 60 questions on 24 pictures, compared with a reference.

    questions.jsonl {question_id, image, text, category}     the question
    context.jsonl {image, caption}                           what the judge knows of the picture
    answers_gpt4.jsonl {question_id, text}                   the reference's answer, shown first
    ─▶ the judge's scores of 1 to 10 for both, on the first line of its reply ─▶ mean(model) / mean(reference)

The judge sees no picture; its prompt is the official one (`prompts/llava_bench.yaml`), at temperature 0.2. Published
scores are by gpt-4-0314 (later ones by other judges, which give other scores). The published captions are texts, and
the official script joins their letters by line ends, so its judge reads one letter a line: that is the default here,
since published scores were got so; `context=plain` shows the caption as it is. The official order, the reference first,
is the default too; `orders=both` also swaps the answers, takes each answer's mean, and says how often
the model won, lost and tied, a pair whose orders name different winners being a tie.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from mminstruct.building.request import Parameters
from mminstruct.config import Config
from mminstruct.conversation import Message
from mminstruct.errors import DataError, ReplyError
from mminstruct.evaluation.benchmark import Item, Protocol
from mminstruct.evaluation.judges import Judge, JudgedBenchmark, JudgePrompt, both_orders, read_told
from mminstruct.evaluation.official import Official, json_lines, records
from mminstruct.evaluation.scorers.llava_bench import read_gold

TOLD = read_told(Path(__file__).parent / "prompts" / "llava_bench.yaml")


@dataclass(frozen=True)
class Answers:
    """What the judge is shown."""

    context: str
    question: str
    first: str
    second: str


class Compare(JudgePrompt[Answers, tuple[float, float]]):
    name = "llava-bench/compare"
    version = TOLD.version
    parameters = Parameters(temperature=0.2, max_tokens=1024)
    may_be_cut = True  # the scores stand on the first line

    def messages(self, facts: Answers) -> list[Message]:
        return TOLD.messages(
            context=facts.context,
            question=facts.question,
            first=facts.first,
            second=facts.second,
            rule=TOLD.parts["rule"],
        )

    def parse(self, reply: str, facts: Answers) -> tuple[float, float]:
        scores = reply.split("\n")[0].replace(",", " ").split()
        try:
            first, second = (float(score) for score in scores)
        except ValueError:
            raise ReplyError("its first line is not two numbers and nothing else") from None
        if not (1 <= first <= 10 and 1 <= second <= 10):
            raise ReplyError("the scores must be from 1 to 10")
        return first, second


class _Question(Official):
    question_id: int | str
    image: str


class _Context(Official):
    image: str
    caption: str | list[str]


class _Reference(Official):
    question_id: int | str
    text: str = Field(min_length=1)


class LlavaBench(JudgedBenchmark):
    name = "llava-bench"
    summary = "60 open questions in the wild, compared by a language model with a reference's answers."
    primary_scorer = "llava-bench"
    further_scorers = ("llava-bench.llava",)
    protocols = (
        Protocol(
            name="llava-1.5",
            source="haotian-liu/LLaVA scripts/v1_5/eval/llavabench.sh: model_vqa with the bare question behind the "
            "image, vicuna_v1, temperature 0, 1,024 tokens",
            max_new_tokens=1024,
            prompt="\n{question}",
        ),
    )
    licence = "Apache-2.0 (the data set's card)"
    data = "the data set llava-bench-in-the-wild: questions.jsonl, context.jsonl, answers_gpt4.jsonl and images/"

    class Options(Config):
        """`folder` is the data set's, with the files under their official names."""

        folder: Path
        context: Literal["official", "plain"] = "official"
        orders: Literal["reference-first", "both"] = "reference-first"

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file is missing or not as published, and where one lacks what another names."""
        folder = self.options.folder.absolute()
        path = folder / "questions.jsonl"
        images = {str(one.question_id): one.image for _, one in records(json_lines(path), _Question)}
        contexts = {
            one.image: one.caption
            if isinstance(one.caption, str) and self.options.context == "plain"
            else "\n".join(one.caption)
            for _, one in records(json_lines(folder / "context.jsonl"), _Context)
        }
        references = {
            str(one.question_id): one.text for _, one in records(json_lines(folder / "answers_gpt4.jsonl"), _Reference)
        }
        for item in read_gold(path):
            picture = folder / "images" / images[item.id]
            lacking = {
                f"{picture}": picture.is_file(),
                f"a line of context.jsonl on {images[item.id]!r}": images[item.id] in contexts,
                "a line of answers_gpt4.jsonl": item.id in references,
            }
            for what, is_there in lacking.items():
                if not is_there:
                    raise DataError(f"{path}: question {item.id} needs {what}, which does not exist; get {self.data}")
            yield replace(
                item,
                images=(picture,),
                answers=(references[item.id],),
                facts={"context": contexts[images[item.id]]},
            )

    def grade(self, judge: Judge, items: Sequence[Item], answers: Sequence[str]) -> list[str]:
        """Pairs (reference, model), one for each order."""
        pairs = [
            Answers(str(item.facts["context"]), item.question, item.answers[0], said)
            for item, said in zip(items, answers, strict=True)
        ]
        if self.options.orders == "both":
            return [json.dumps(list(orders)) for orders in both_orders(judge, Compare(), pairs, _swapped)]
        return [json.dumps([scores]) for scores in judge.ask(Compare(), pairs)]


def _swapped(pair: Answers) -> Answers:
    return replace(pair, first=pair.second, second=pair.first)


BENCHMARK = LlavaBench

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
