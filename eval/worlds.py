"""What a model sees in this project's own worlds: twelve kinds of questions on pictures and clips, drawn offline.

    seed ── data_builders/worlds/exam_*.py ──▶ data_cache/VERSION-SEED-COUNT/KIND/{questions.jsonl, *.png, *.mp4}
                                                                                       └──▶ Item(counting/0, kind)

Nothing is needed but the project: each kind is drawn once into the cache and found there later. Answers are exact, for
the worlds know what they drew, and balanced: within each way of asking (`detail`), no answer is right more often than
one in as many as there are options. The seed is none that a builder takes by default, so what is asked is not what the
builders' data sets show, though it looks alike: the figures say what a model learnt of such pictures, not of the world.

The prompts are LLaVA-1.5's (Liu et al., arXiv 2310.03744, and `scripts/v1_5/eval` of LLaVA). Examples of in-context
learning stand in front, each a picture, the question and its answer; `instructions` are asked as they are, in three
turns, and have no options, so the protocols of multiple choice leave them out.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from mminstruct.config import Config
from mminstruct.conversation import Conversation, Media, Message, Part, image, message, text
from mminstruct.data_builders.worlds.clips import RATE
from mminstruct.data_builders.worlds.exam import Form, Question, drawn
from mminstruct.data_builders.worlds.exam_figures import CHARTS, FUNCTIONS, GEOMETRY
from mminstruct.data_builders.worlds.exam_reading import IN_LANGUAGES, OCR, ON_SLIDES
from mminstruct.data_builders.worlds.exam_seeing import COUNTING, SPATIAL, YES_OR_NO
from mminstruct.data_builders.worlds.exam_several import IN_CONTEXT, INSTRUCTIONS, VIDEO
from mminstruct.errors import DataError, did_you_mean
from mminstruct.evaluation.answer_cache import default_path
from mminstruct.evaluation.benchmark import LETTERS, Benchmark, Item, Protocol, one_question
from mminstruct.files import bytes_sha256, made_once, read_jsonl, write_bytes, write_text
from mminstruct.media import encode_clip, encode_png

VERSION = 1
"""Raised when the same options draw other questions or pictures, so that caches and scores are not mixed."""
SEED = 20_271
TURNS = 3  # of a conversation of `instructions`
AFTER_IMAGE = "\n"
SHORT = "{question}\nAnswer the question using a single word or phrase."
CHOICE = "{question}\n{choices}\nAnswer with the option's letter from the given choices directly."

KINDS: dict[str, tuple[Form, ...]] = {
    "counting": COUNTING,
    "spatial": SPATIAL,
    "yes-no": YES_OR_NO,
    "charts": CHARTS,
    "geometry": GEOMETRY,
    "functions": FUNCTIONS,
    "slides": ON_SLIDES,
    "ocr": OCR,
    "languages": IN_LANGUAGES,
    "in-context": IN_CONTEXT,
    "instructions": INSTRUCTIONS,
    "video": VIDEO,
}


class Worlds(Benchmark):
    name = "worlds"
    summary = "Twelve kinds of questions on pictures and clips drawn here, offline: reading, counting, places, charts."
    primary_scorer = "worlds"
    further_scorers = ("worlds.strict",)
    protocols = (
        Protocol("llava-1.5", "LLaVA-1.5's short answers (arXiv 2310.03744; scripts/v1_5/eval)", 48, SHORT),
        Protocol("letters", "LLaVA-1.5's multiple choice (scripts/v1_5/eval, MMBench and ScienceQA)", 16, CHOICE),
        Protocol("first-token", "the same prompt; the letter whose token is the most probable", 1, CHOICE, (), True),
    )
    licence = "Apache-2.0 (drawn by this project)"
    data = "drawn on first use; the kind video needs PyAV (mminstruct[video])"

    class Options(Config):
        """What is drawn, and where it is kept.

        `count` questions of each kind; multiples of 48 balance every way of asking exactly. `data_cache` is by default
        `mminstruct/worlds` in the user's cache folder.
        """

        kinds: tuple[str, ...] = tuple(KINDS)
        count: int = Field(default=48, ge=1, le=4800)
        seed: int = SEED
        data_cache: Path | None = None

        @field_validator("kinds")
        @classmethod
        def _are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
            for kind in value:
                if kind not in KINDS:
                    raise ValueError(f"there is no kind {kind!r}.{did_you_mean(kind, KINDS)}")
            return tuple(dict.fromkeys(value))

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `RunError` where the cache cannot be written, `ConfigError` where clips are asked for without PyAV."""
        for kind in self.options.kinds:
            folder = self.folder(kind)
            for number, line in read_jsonl(folder / "questions.jsonl"):
                item = _item(folder, number, line)
                if self._by_letter:
                    if not item.choices:
                        continue
                    letter = LETTERS[item.choices.index(item.answers[0])]
                    item = Item(**{**vars(item), "answers": (letter,)})
                yield item

    @property
    def _by_letter(self) -> bool:
        return "{choices}" in self.protocol.prompt

    def folder(self, kind: str) -> Path:
        """Where the questions of a kind are; they are drawn if they are not there yet."""
        options = self.options
        cache = options.data_cache or default_path().with_name("worlds")
        folder = cache / f"{VERSION}-{options.seed}-{options.count}" / kind
        return made_once(folder.absolute(), functools.partial(draw, kind, options.seed, options.count))

    def conversation(self, item: Item) -> Conversation:
        if item.facts.get("checks"):
            return one_question(item, AFTER_IMAGE + item.question)
        asked = one_question(item, AFTER_IMAGE + self.protocol.text(item))
        told = item.facts.get("told")
        return asked if told is None else asked.model_copy(update={"messages": [self._with_examples(item, told)]})

    def _with_examples(self, item: Item, told: Sequence[str]) -> Message:
        parts: list[Part] = []
        for number, answer in enumerate(told):
            parts += [image(number), text(f"{AFTER_IMAGE}{item.question}\nAnswer: {answer}\n\n")]
        return message("user", *parts, image(len(told)), AFTER_IMAGE + self.protocol.text(item))

    def conversation_after(self, item: Item, replies: Sequence[str]) -> Conversation:
        """The picture stands in the first turn only."""
        if not replies:
            return self.conversation(item)
        before: list[str] = item.facts["before"]
        turns = [message("user", image(), AFTER_IMAGE + before[0]), message("assistant", replies[0])]
        for question, reply in zip(before[1:], replies[1:], strict=True):
            turns += [message("user", question), message("assistant", reply)]
        turns.append(message("user", item.question))
        return Conversation(id=item.id, messages=turns, media=[Media(path=str(item.images[0]))], task=item.kind)


# --- the cache --------------------------------------------------------------------------------------------------------


def draw(kind: str, seed: int, count: int, folder: Path) -> None:
    """Draw the questions of a kind into a folder."""
    several = TURNS if kind == "instructions" else 1
    lines: list[dict[str, Any]] = []
    for number, question in enumerate(drawn(kind, KINDS[kind], seed, -(-count // several))):
        lines += _lines(f"{kind}/{number}", question, folder)
    write_text(
        folder / "questions.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines[:count])
    )


def _lines(name: str, question: Question, folder: Path) -> Iterator[dict[str, Any]]:
    """Those of a question and of the turns that follow it."""
    images = [_kept(folder, encode_png(picture), ".png") for picture in question.pictures]
    videos = [_kept(folder, encode_clip(question.clip.frames(), RATE), ".mp4")] if question.clip else []
    turns = [question, *question.later]
    for turn, asked in enumerate(turns):
        yield {
            "id": f"{name}/{turn + 1}" if question.later else name,
            "images": images,
            "videos": videos,
            "question": asked.text,
            "answers": asked.answers,
            "detail": f"turn {turn + 1}" if question.later else question.form,
            "choices": [] if asked.checks else asked.options,
            "after": [f"{name}/{earlier + 1}" for earlier in range(turn)],
            "facts": {"worlds": asked.worlds}
            | ({"told": asked.told} if asked.told else {})
            | ({"checks": asked.checks, "others": asked.wrong} if asked.checks else {})
            | ({"before": [earlier.text for earlier in turns[:turn]]} if turn else {}),
        }


def _kept(folder: Path, data: bytes, suffix: str) -> str:
    """The name of a file, that of its bytes: what several questions show is kept once."""
    name = f"{bytes_sha256(data)[:20]}{suffix}"
    if not (folder / name).exists():
        write_bytes(folder / name, data)
    return name


def _item(folder: Path, number: int, line: Any) -> Item:
    try:
        images, videos = ([folder / name for name in line[key]] for key in ("images", "videos"))
        missing = next((path for path in [*images, *videos] if not path.is_file()), None)
        if missing is not None:
            raise DataError(f"{missing} is gone; remove {folder}, and it is drawn again")
        return Item(
            id=line["id"],
            images=tuple(images),
            videos=tuple(videos),
            question=line["question"],
            answers=tuple(line["answers"]),
            kind=folder.name,
            detail=line["detail"],
            cluster=(images or videos)[-1].stem,
            choices=tuple(line["choices"]),
            after=tuple(line["after"]),
            facts=line["facts"],
        )
    except (KeyError, TypeError, IndexError):
        raise DataError(
            f"{folder / 'questions.jsonl'}:{number} is broken; remove {folder}, and it is drawn again"
        ) from None


BENCHMARK = Worlds

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
