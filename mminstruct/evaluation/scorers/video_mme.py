"""Video-MME: 2,700 multiple choice questions on 900 videos, short, medium and long.

    response ── known phrases deleted ──▶ text ── first capital of A to D, anywhere ──▶ letter

- `official`: BradyFU/Video-MME (thanku-all/parse_answer), evaluation/eval_your_results.py. Its list of phrases lacks
  two commas, so "The best option is", "The correct option is", "Best answer:" and "Best option:" are not deleted, and
  "Best answer: C" is B. Answers without a capital of A to D are left out, of the denominators too.
- `corrected`: the same with the commas.
- `vlmevalkit`: VLMEvalKit, dataset/utils/videomme.py, without a judge: also deletes "Answer:" and "Option:", still
  without the commas; then `can_infer` over the options without their full stops; an unread answer is wrong.
- `lmms-eval-2024`: tasks/videomme/utils.py (86a293d): the official letter, but an unread answer is wrong.
- `lmms-eval`: tasks/_task_utils/mcq_extract.py (c228e27): its own order of forms; an unread answer is wrong.

Figures: short, medium and long, `DURATION/DOMAIN`; over all videos `domain/...`, `sub_category/...`, `task_type/...`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field

from mminstruct.errors import DataError
from mminstruct.evaluation.circular import options_of
from mminstruct.evaluation.figures import mean_of_parts, part_means
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_lines_or_list, record, unique, unique_items
from mminstruct.evaluation.parquet import any_rows
from mminstruct.evaluation.parsing.letters import (
    VIDEO_MME_PHRASES,
    VIDEO_MME_PHRASES_CORRECTED,
    VLMEVALKIT_PHRASES,
    first_letter_after,
    lmms_eval_letter,
    vlmevalkit_letter,
)
from mminstruct.evaluation.scorers.metric import (
    Figures,
    JudgeAll,
    Metric,
    Variant,
    Verdict,
    each,
    mean,
    missing_is_wrong,
)

LETTERS = "ABCD"


def _by(read: Callable[[str, Item], str | None]) -> JudgeAll:
    def judge(text: str, item: Item) -> Verdict:
        found = read(text, item)
        return Verdict(float(found in item.answers), found, parsed=found is not None)

    return each(judge)


def _vlmevalkit(text: str, item: Item) -> str | None:
    found = first_letter_after(text, VLMEVALKIT_PHRASES)
    if found is not None:
        return found
    return vlmevalkit_letter(text, {letter: option.strip(". \n") for letter, option in options_of(item).items()})


def _parts(item: Item) -> Iterator[str]:
    duration, domain = item.facts.get("duration"), item.facts.get("domain")
    if duration:
        yield duration
    if duration and domain:
        yield f"{duration}/{domain}"
    yield from (f"{name}/{item.facts[name]}" for name in FACTS[1:] if item.facts.get(name))


def _answered(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    """The share of right answers among those in which a letter was found."""
    kept = [(item, verdict) for item, verdict in zip(items, verdicts, strict=True) if verdict.parsed]
    items, verdicts = [item for item, _ in kept], [verdict for _, verdict in kept]
    return mean(items, verdicts) | part_means(items, verdicts, _parts)


# --- official files ---------------------------------------------------------------------------------------------------

FACTS = ("duration", "domain", "sub_category", "task_type")


class _Video(Official):
    """A video in the file of results, by the template's names or by those of the data set."""

    video_id: str | int
    duration: str = Field("", validation_alias=AliasChoices("duration_category", "duration"))
    domain: str = Field("", validation_alias=AliasChoices("video_category", "domain"))
    sub_category: str = Field("", validation_alias=AliasChoices("video_subcategory", "sub_category"))
    url: str = ""
    missing: bool = False
    questions: list[dict[str, Any]]


class _Question(Official):
    question_id: str | int
    answer: str
    task_type: str = ""
    question: str = ""
    choices: list[str] = Field(default_factory=list, validation_alias=AliasChoices("choices", "options"))


class _Row(_Question):
    """A question with its video's facts, as the data set has it."""

    video_id: str | int = Field("", validation_alias=AliasChoices("video_id", "videoID", "video"))
    videoID: str = ""  # noqa: N815
    url: str = ""
    duration: str = ""
    domain: str = ""
    sub_category: str = ""


class _Answer(Official):
    question_id: str | int
    response: str = Field(validation_alias=AliasChoices("response", "prediction", "pred", "text"))


def read_gold(path: Path) -> list[Item]:
    """The file of results [{video_id, duration_category, ..., questions: [...]}], or questions one by one.

    Videos with `missing: true` are left out, as with the official skip_missing.
    """
    return unique_items((place, item) for place, value in any_rows(path, "test") for item in _items(place, value))


def _items(place: str, value: Any) -> Iterator[Item]:
    if not (isinstance(value, dict) and "questions" in value):
        row = record(place, value, _Row)
        yield _item(row, str(row.video_id), row)
        return
    video = record(place, value, _Video)
    if not video.missing:
        for number, entry in enumerate(video.questions):
            yield _item(record(f"{place}: question {number}", entry, _Question), str(video.video_id), video)


def _item(question: _Question, video: str, facts: _Video | _Row) -> Item:
    found: Mapping[str, str] = {
        "duration": facts.duration,
        "domain": facts.domain,
        "sub_category": facts.sub_category,
        "task_type": question.task_type,
    }
    name = (facts.videoID if isinstance(facts, _Row) else "") or facts.url.partition("v=")[2] or video
    return Item(
        id=str(question.question_id),
        videos=(Path(f"{name}.mp4"),) if name else (),
        question=question.question,
        answers=(question.answer,),
        kind=question.task_type,
        cluster=video or str(question.question_id),
        choices=tuple(_bare(letter, text) for letter, text in zip(LETTERS, question.choices, strict=False)),
        facts={name: value for name, value in found.items() if value},
    )


def _bare(letter: str, text: str) -> str:
    """An option without its letter: "A. Inkstone." -> "Inkstone."."""
    return text.removeprefix(f"{letter}.").strip()


def read_answers(path: Path) -> dict[str, str]:
    """question_id -> response of the file of results, or of questions one by one {question_id, response}."""
    return unique(entry for place, value in json_lines_or_list(path) for entry in _answers(place, value))


def _answers(place: str, value: Any) -> Iterator[tuple[str, str, str]]:
    entries = [(place, value)]
    if isinstance(value, dict) and "questions" in value:
        video = record(place, value, _Video)
        named = enumerate([] if video.missing else video.questions)
        entries = [(f"{place}: question {number}", entry) for number, entry in named]
    for where, entry in entries:
        if isinstance(entry, dict) and not {"response", "prediction", "pred", "text"} & entry.keys():
            raise DataError(f"{where} has no response; give the file that the model's answers are in")
        answer = record(where, entry, _Answer)
        yield where, str(answer.question_id), answer.response


METRIC = Metric(
    name="video-mme",
    summary="Accuracy on Video-MME: multiple choice on videos of three lengths.",
    variants=(
        Variant(
            "official",
            "BradyFU/Video-MME, eval_your_results.py: phrases with two commas missing; unread answers are left out.",
            _by(lambda text, item: first_letter_after(text, VIDEO_MME_PHRASES)),
            _answered,
        ),
        Variant(
            "corrected",
            "The same with the two commas, so that Best answer: C is C.",
            _by(lambda text, item: first_letter_after(text, VIDEO_MME_PHRASES_CORRECTED)),
            _answered,
        ),
        Variant(
            "vlmevalkit",
            "VLMEvalKit, dataset/utils/videomme.py without a judge: deletes Answer: and Option: too; unread is wrong.",
            _by(_vlmevalkit),
            mean_of_parts(_parts),
        ),
        Variant(
            "lmms-eval",
            "lmms-eval, tasks/_task_utils/mcq_extract.py (c228e27): the surest form, then the last; unread is wrong.",
            _by(lambda text, item: lmms_eval_letter(text, LETTERS)),
            mean_of_parts(_parts),
        ),
        Variant(
            "lmms-eval-2024",
            "lmms-eval, tasks/videomme/utils.py (86a293d): the official letter; an unread answer is wrong.",
            _by(lambda text, item: first_letter_after(text, VIDEO_MME_PHRASES)),
            mean_of_parts(_parts),
        ),
    ),
    files="the results [{video_id, duration_category, ..., questions: [{question_id, answer, response}]}], for both",
    gold=read_gold,
    predictions=read_answers,
    pairing=missing_is_wrong,
)
