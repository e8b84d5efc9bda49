"""MathVista (Lu et al., ICLR 2024, arXiv 2310.02255): mathematics in pictures; options, numbers and lists as answers.

    testmini.json {pid: {question, image, choices, unit, precision, answer, query, ...}} ─▶ 1,000 questions
    images/PID.jpg; or the Parquet file of the set, with the images within

The authors let GPT-4 take the answer out of the response and score what it took. Without it, `mathvista.official` takes
the response itself for that extraction: right for models that answer briefly, too low for those that explain;
`mathvista.quick-extract` is the authors' own rule without the language model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mminstruct.config import Config
from mminstruct.conversation import Conversation
from mminstruct.errors import DataError
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol, one_question
from mminstruct.evaluation.embedded_images import Embedded
from mminstruct.evaluation.local_files import Pictures, found
from mminstruct.evaluation.parsing.letters import lettered
from mminstruct.evaluation.scorers.mathvista import MULTI_CHOICE, facts_of, read_rows

_HINT = "Hint: Please answer the question {0} at the end."
_NUMBERS = {
    ("integer", None): ("an integer answer", "value", "1, 2, 3"),
    ("float", 1): ("a floating-point number with one decimal place", "value", "1.2, 1.3, 1.4"),
    ("float", 2): ("a floating-point number with two decimal places", "value", "1.23, 1.34, 1.45"),
    ("list", None): ("a Python list as an answer", "list", "[1, 2, 3], [1.2, 1.3, 1.4]"),
}


class MathVista(Benchmark):
    name = "math-vista"
    summary = "MathVista: mathematics in pictures, with options, whole numbers, decimals or lists as answers."
    primary_scorer = "mathvista.official"
    further_scorers = ("mathvista.quick-extract", "mathvista.vlmevalkit")
    protocols = (
        Protocol(
            name="build-query",
            source="lupantech/MathVista, evaluation/build_query.py, no examples, shot_type solution",
            max_new_tokens=1024,
        ),
        Protocol(
            name="query",
            source="the field `query` of the data set, as lmms-eval and VLMEvalKit ask: the hint in front",
            max_new_tokens=1024,
        ),
    )
    licence = "CC BY-SA 4.0 (lupantech/MathVista); the images have licences of their own"
    data = "MathVista of lupantech: file=testmini.json and images=DIR with images/1.jpg ..., or the set's Parquet file"

    class Options(Config):
        """The official file; the folder that its images' paths start from, where they are not within it."""

        file: Path
        images: Path | None = None
        cache: Path | None = None

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where the file or an image is missing or not as described."""
        embedded = Embedded(self.options.file, self.options.cache)
        pictures = None if self.options.images is None else Pictures(self.options.images, self.data)
        for place, item, row in read_rows(found(self.options.file, self.data)):
            if pictures is None and not row.get("decoded_image"):
                raise DataError(f"{place} holds no image; give the folder of images; needed is: {self.data}")
            names = [name for path in item.images for name in (str(path), path.name)]
            image = embedded.keep(row["decoded_image"], place) if pictures is None else pictures.named(*names)
            yield replace(item, images=(image,))

    def conversation(self, item: Item) -> Conversation:
        if self.protocol.name == "query":
            if not item.facts.get("query"):
                raise DataError(f"question {item.id!r} has no query; ask by protocol=build-query")
            return one_question(item, f"\n{item.facts['query']}")
        return one_question(item, "\n" + _query(item))


def _query(item: Item) -> str:
    unit = f" (Unit: {item.facts['unit']})" if item.facts.get("unit") else ""
    lines = [f"Question: {item.question}{unit}"]
    if item.choices:
        lines += ["Choices:", *(f"({letter}) {text}" for letter, text in lettered(item.choices).items())]
    return "\n".join([*lines, _hint(item), "Solution:"])


def _hint(item: Item) -> str:
    facts = facts_of(item)
    if facts.question_type == MULTI_CHOICE:
        return _HINT.format("and provide the correct option letter, e.g., A, B, C, D,")
    digits = int(facts.precision) if facts.answer_type == "float" and facts.precision is not None else None
    if (facts.answer_type, digits) not in _NUMBERS:
        raise DataError(f"question {item.id!r} wants a {facts.answer_type} of precision {facts.precision}; mend it")
    wanted, what, examples = _NUMBERS[facts.answer_type, digits]
    return _HINT.format(f"requiring {wanted} and provide the final {what}, e.g., {examples},")


BENCHMARK = MathVista

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
