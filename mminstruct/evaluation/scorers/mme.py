"""MME: yes-no questions in 14 tasks, two on each image; the sum of accuracy and accuracy+ in per cent, up to 2,800.

    results folder    existence.txt, count.txt, ...: lines of image \\t question \\t right answer \\t answer
    benchmark folder  TASK/*.txt or TASK/questions_answers_YN/*.txt: lines of question \\t right answer
    LLaVA's file      lines of {"question_id": "TASK/.../IMAGE", "prompt", "text"}

A task's score is 100 * (right questions / questions) + 100 * (images with both right / images). `perception` is the sum
of ten tasks, `cognition` of four, and `score` of all that are there.

- `official`: tools/eval_tool/calculation.py of BradyFU/Awesome-Multimodal-Large-Language-Models. An answer is read from
  its first four characters in lower case: yes, else no ("not", "none", "know"), else neither, which is wrong; four
  blanks before a "yes" hide it. The two questions of an image are two lines after each other, whatever they say.
- `lmms-eval`: tasks/mme/utils.py: outer blanks and full stops are deleted first, and "y" and "n" count; the questions
  of an image go together by its name, wherever they stand.
- `vlmevalkit`: dataset/utils/yorn.py with exact matching: exactly one of the words yes and no, anywhere in the text; by
  the image's name. It calls cognition `reasoning`.

Results folders serve for both options; a benchmark folder goes with a results folder or LLaVA's file. Questions are
joined by task, image and wording, for which the prompts' endings ("Please answer yes or no.", LLaVA's "Answer the
question using a single word or phrase.") and double blanks do not count, as LLaVA's convert_answer_to_mme.py has it.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mminstruct.errors import DataError
from mminstruct.evaluation.answer_files import answers
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, records, table, unique, unique_items
from mminstruct.evaluation.parsing.yes_no import first_letters, first_letters_or_one, only_one
from mminstruct.evaluation.scorers.metric import Figures, JudgeAll, Metric, Predictions, Variant, Verdict

PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
TASKS = PERCEPTION + COGNITION
ENDINGS = ("Answer the question using a single word or phrase.", "Please answer yes or no.")
QUESTIONS_OF_AN_IMAGE = 2


class _Row(Official):
    """A row of VLMEvalKit's table."""

    index: str
    category: str
    image_path: str
    question: str
    answer: str


_Line = tuple[str, str, str, str, str]
"""(place, task, image, question, right answer or answer)."""


def read_questions(path: Path) -> list[Item]:
    """The items of a results folder, a benchmark folder, or VLMEvalKit's table."""
    lines = _rows(path) if path.suffix == ".tsv" else _folder(path, column=2)
    named = _named(lines)
    places: Counter[str] = Counter()
    found = []
    for place, name, (_, task, image, question, answer) in named:
        if answer.strip().lower() not in ("yes", "no"):
            raise DataError(f"{place}: the right answer is {answer!r}; it must be yes or no")
        pair = places[task] // QUESTIONS_OF_AN_IMAGE
        places[task] += 1
        found.append(
            (
                place,
                Item(
                    id=name,
                    question=question,
                    answers=(answer.strip().lower(),),
                    kind=task,
                    cluster=f"{task}/{image}",
                    group=f"{task} {pair}",
                ),
            )
        )
    for task, count in places.items():
        if count % QUESTIONS_OF_AN_IMAGE:
            raise DataError(f"{path}: {task} has {count} questions; MME has two for each image")
    return unique_items(found)


def read_answers(path: Path) -> dict[str, str]:
    """The answers of a results folder, LLaVA's file or VLMEvalKit's table."""
    if path.is_dir():
        lines = list(_folder(path, column=3))
    elif path.suffix == ".tsv":
        texts = answers(path, ("index",), ("prediction",))
        lines = [(*row[:4], text.text) for row, text in zip(_rows(path), texts, strict=True)]
    else:
        lines = [_llava(line.place, line.id, line.record.get("prompt"), line.text) for line in answers(path)]
    if not lines:
        raise DataError(f"{path} holds no answers; give the folder of results, existence.txt and its like")
    return unique((place, name, text) for place, name, (*_, text) in _named(lines))


def _llava(place: str, name: str, prompt: object, text: str) -> _Line:
    if "/" not in name or not isinstance(prompt, str):
        raise DataError(f"{place} is no answer of LLaVA's to MME; needed are question_id TASK/IMAGE, prompt and text")
    return place, name.partition("/")[0], name.rpartition("/")[2], prompt, text


def _folder(path: Path, column: int) -> Iterator[_Line]:
    """The lines of the tasks' files; `column` is that of the text which is asked for, where there are four."""
    if not path.is_dir():
        raise DataError(f"{path} is no folder; give the folder of results (existence.txt, ...) or the benchmark's")
    found = False
    for task in TASKS:
        single, many = path / f"{task}.txt", path / task
        if single.is_file():
            found = True
            for place, cells in _cells(single):
                # Without answers, as the benchmark ships them, the lines have three columns.
                if len(cells) != 4 and not (len(cells) == column + 1 == 3):
                    wanted = "image, question, right answer and answer"
                    raise DataError(f"{place} has {len(cells)} columns and not 4: {wanted}, apart by tabs")
                yield place, task, cells[0], cells[1], cells[column]
        elif many.is_dir():
            found = True
            yield from _benchmark(many, task, column)
    if not found:
        raise DataError(f"{path} has none of the tasks' files or folders, existence.txt, count.txt, ... or existence/")


def _benchmark(folder: Path, task: str, column: int) -> Iterator[_Line]:
    if column != 2:
        raise DataError(f"{folder} holds questions and no answers; give the folder of results for the predictions")
    questions = folder / "questions_answers_YN"
    for file in sorted((questions if questions.is_dir() else folder).glob("*.txt")):
        for place, cells in _cells(file, stripped=True):
            if len(cells) != 2:
                raise DataError(f"{place} has {len(cells)} columns and not 2: question and right answer, apart by tabs")
            yield place, task, file.name, cells[0], cells[1]


def _cells(path: Path, stripped: bool = False) -> Iterator[tuple[str, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield f"{path}:{number}", (line.strip() if stripped else line.removesuffix("\n")).split("\t")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from None


def _rows(path: Path) -> Iterator[_Line]:
    for place, row in records(table(path), _Row):
        yield place, row.category, row.image_path, row.question, row.answer


def _named(lines: Sequence[_Line] | Iterator[_Line]) -> Iterator[tuple[str, str, _Line]]:
    """(place, name, line): the name is made of task, image and wording, and numbered where a wording comes again."""
    seen: Counter[str] = Counter()
    for line in lines:
        place, task, image, question, _ = line
        for ending in ENDINGS:
            question = question.replace(ending, "")
        name = f"{task}/{image.rpartition('/')[2].partition('.')[0]}/{' '.join(question.split())}"
        seen[name] += 1
        yield place, name if seen[name] == 1 else f"{name} ({seen[name]})", line


def _judge(parse: Callable[[str], str | None]) -> JudgeAll:
    def judge_all(items: Sequence[Item], texts: Predictions) -> list[Verdict]:
        verdicts = []
        for item, text in zip(items, texts, strict=True):
            found = None if text is None else parse(text)
            right = float(found == item.answers[0].strip().lower())
            verdicts.append(Verdict(right, answer=found, parsed=found is not None))
        return verdicts

    return judge_all


def _total(pair: Callable[[Item], str], cognition: str) -> Callable[[Sequence[Item], Sequence[Verdict]], Figures]:
    """The figures, where the questions of an image are those of which `pair` says the same."""

    def total(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
        scores: dict[str, list[float]] = defaultdict(list)
        pairs: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for item, verdict in zip(items, verdicts, strict=True):
            scores[item.kind].append(verdict.score)
            pairs[item.kind][pair(item)].append(verdict.score)
        tasks: Figures = {}
        points: dict[str, float] = {}
        for task in sorted(scores, key=lambda name: (TASKS.index(name) if name in TASKS else len(TASKS), name)):
            acc = 100 * math.fsum(scores[task]) / len(scores[task])
            both = [math.prod(some) for some in pairs[task].values()]
            acc_plus = 100 * math.fsum(both) / len(both)
            points[task] = acc + acc_plus
            tasks |= {task: acc + acc_plus, f"{task} acc": acc, f"{task} acc+": acc_plus}
        sums: Figures = {
            name: math.fsum(points[task] for task in some if task in points) if set(some) & set(points) else None
            for name, some in (("perception", PERCEPTION), (cognition, COGNITION))
        }
        return {"score": math.fsum(points.values()) if points else None} | sums | tasks

    return total


METRIC = Metric(
    name="mme",
    summary="MME: accuracy and accuracy+ of yes-no questions, summed over 14 tasks.",
    variants=(
        Variant(
            "official",
            "tools/eval_tool/calculation.py of MME: yes or no in the first four characters; pairs are lines.",
            _judge(first_letters),
            _total(lambda item: item.group or item.cluster, "cognition"),
        ),
        Variant(
            "lmms-eval",
            "lmms-eval, tasks/mme: blanks and full stops deleted first, y and n count; pairs by the image.",
            _judge(first_letters_or_one),
            _total(lambda item: item.cluster, "cognition"),
        ),
        Variant(
            "vlmevalkit",
            "VLMEvalKit, yorn.py without a judge: exactly one of yes and no as a word; pairs by the image.",
            _judge(only_one),
            _total(lambda item: item.cluster, "reasoning"),
        ),
    ),
    files="a folder of results (existence.txt, ...), the benchmark's folder; LLaVA's answers file",
    gold=read_questions,
    predictions=read_answers,
    best=2800.0,
)
