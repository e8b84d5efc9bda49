"""VQA with solved examples in front of each question: images in context, as Flamingo and OpenFlamingo are measured.

    training questions ── random | rices | instruction ──▶ demonstrations of each validation question
    <image>Question:{q} Short answer:{a}<|endofchunk|>  x shots, then  <image>Question:{q} Short answer:

Any two sets in VQA's layout serve: VQA v2, OK-VQA, or VizWiz and TextVQA written in it. A demonstration is a turn of
the user and one of the assistant, so the chat template writes what ends it: OpenFlamingo's `<|endofchunk|>`, a chat
model's own mark. With the template `open_flamingo` the prompt is OpenFlamingo's to the character.

What OpenFlamingo's evaluation does (mlfoundations/open_flamingo, eval/evaluate.py, as of version 2), and so does this:

- 0 shots shows two demonstrations as text without their images, so that the model sees how to answer. `zero_shot=0`
  shows none.
- `random`: for each question anew, out of 2,048 training questions. `rices` (retrieval of in-context examples by
  similarity): the whole training set, the most similar picture last. It takes CLIP's features; give
  `encoder=clip-vit-l-14-224` for those, without which colours and their places decide, and that is another experiment.
- The answer is what stands before "Question", "Answer", "Short" and before the first comma with a blank: they are stop
  texts here, which leaves the same. A demonstration's answer is the annotators' first.
- Answer and golds are normalised always, which is `vqa.lmms-eval` (see the metric `few-shot-vqa`). OK-VQA's stemming
  needs data of NLTK's and is not done.

Differences: decoding is greedy and not by three beams, as everywhere in this program, and the random choice is of this
program. Demonstrations about the question's own image are never shown. `instruction` chooses by the words of the
question, as MIMIC-IT does. The mean over `seeds` is the score, and each seed's is given as a type of question.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from mminstruct.config import Config
from mminstruct.conversation import Conversation, Media, Message, Part, image, text
from mminstruct.eval.vqa import AFTER_IMAGE, LLAVA_TOKENS, SHORT_ANSWER
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol
from mminstruct.evaluation.demonstrations import Nearest, OfPictures, at_random, of_questions
from mminstruct.evaluation.local_files import Pictures, found
from mminstruct.evaluation.scorers.vqa import read_questions

SHOTS = (4, 0, 8, 16, 32)  # the first is the default
OPEN_FLAMINGO = "Question:{question} Short answer:"


@dataclass(frozen=True)
class FewShot(Protocol):
    """A way of asking with demonstrations.

    Attributes:
        shots: how many are shown with their images.
        between: stands in front of each turn but the first.
        zero_shot: how many are shown as text where `shots` is 0.
    """

    shots: int = 0
    between: str = ""
    zero_shot: int = 0


class FewShotVqa(Benchmark):
    name = "few-shot-vqa"
    summary = "VQA with 0 to 32 solved examples and their images in front of each question."
    primary_scorer = "vqa.lmms-eval"
    further_scorers = ("vqa.evalai", "vqa.official-2021")
    protocols = (
        *(
            FewShot(
                name=f"open-flamingo-{shots}",
                source="open_flamingo, eval/evaluate.py and eval/models/open_flamingo.py, get_vqa_prompt",
                max_new_tokens=5,
                prompt=OPEN_FLAMINGO,
                stop=("Question", "Answer", "Short", ", "),
                shots=shots,
                between="\n",
                zero_shot=2,
            )
            for shots in SHOTS
        ),
        *(
            FewShot(
                name=f"turns-{shots}",
                source="LLaVA-1.5's short answers (arXiv 2310.03744), the demonstrations as earlier turns",
                max_new_tokens=LLAVA_TOKENS,
                prompt=AFTER_IMAGE + SHORT_ANSWER,
                shots=shots,
            )
            for shots in SHOTS
        ),
    )
    licence = "that of the sets it is given"
    data = (
        "two sets in VQA's layout, such as VQA v2 of visualqa.org or OK-VQA of okvqa.allenai.org: questions, "
        "annotations, images of the validation split, and train_questions, train_annotations, train_images"
    )

    class Options(Config):
        """The two sets, and which demonstrations are shown how.

        Attributes:
            image_name: what an image is called; `{split}` is the file's `data_subtype`.
            demonstrations: `random`, `rices` (similar pictures) or `instruction` (similar questions).
            encoder: the vision encoder of the zoo that `rices` looks with; without one, colours and their places.
            order: of those chosen by similarity.
            query_set: of how many training questions `random` draws.
            seeds: each question is asked once with each.
            intro: a text in front of the first demonstration.
            answer: which answer a demonstration has.
            zero_shot: how many demonstrations 0 shots shows as text; default: the protocol's number.
            cache: where features of the training pictures are kept; default: beside the training questions.
        """

        questions: Path
        annotations: Path
        images: Path
        train_questions: Path
        train_annotations: Path
        train_images: Path
        image_name: str = "COCO_{split}_{image_id:0>12}.jpg"
        demonstrations: Literal["random", "rices", "instruction"] = "random"
        encoder: str | None = None
        order: Literal["nearest-last", "nearest-first", "shuffled"] = "nearest-last"
        query_set: int = Field(default=2048, ge=1)
        seeds: tuple[int, ...] = Field(default=(42,), min_length=1)
        intro: str = ""
        answer: Literal["first", "most-common"] = "first"
        zero_shot: int | None = Field(default=None, ge=0)
        cache: Path | None = None

        @field_validator("image_name")
        @classmethod
        def _has_its_place(cls, value: str) -> str:
            try:
                names = {value.format(split="", image_id=image_id) for image_id in "12"}
            except (KeyError, IndexError, ValueError) as error:
                raise ValueError(f"it can hold the places {{split}} and {{image_id}} only ({error})") from None
            if len(names) == 1:
                raise ValueError("it has no place {image_id}; write it where the image's number should stand")
            return value

        @field_validator("seeds")
        @classmethod
        def _are_different(cls, value: tuple[int, ...]) -> tuple[int, ...]:
            if len(set(value)) < len(value):
                raise ValueError("a seed stands twice")
            return value

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or an image is missing, or there are too few demonstrations."""
        options = self.options
        pictures = Pictures(options.images, self.data)
        split, items = read_questions(found(options.questions, self.data), found(options.annotations, self.data))
        chosen = {seed: self._chooser(seed) for seed in options.seeds}
        for item in items:
            shown = dataclasses.replace(item, images=(pictures.named(self._file(split, item)),))
            for seed, choose in chosen.items():
                demonstrations = choose(shown)
                if self._way.shots:
                    for one in demonstrations:
                        self._picture(one.id)
                asked = dataclasses.replace(
                    shown, facts={**item.facts, "demonstrations": [one.id for one in demonstrations]}
                )
                if len(chosen) > 1:
                    asked = dataclasses.replace(asked, id=f"{item.id}/seed {seed}", kind=f"seed {seed}", detail="")
                yield asked

    @cached_property
    def _training(self) -> dict[str, Item]:
        """The training questions by id, with the names of their images."""
        options = self.options
        split, items = read_questions(
            found(options.train_questions, self.data), found(options.train_annotations, self.data)
        )
        return {item.id: dataclasses.replace(item, images=(Path(self._file(split, item)),)) for item in items}

    @cached_property
    def _train_pictures(self) -> Pictures:
        return Pictures(self.options.train_images, self.data)

    def _picture(self, name: str) -> Path:
        """The file of a training question's image; only of those that are looked at it must be there."""
        return self._train_pictures.named(str(self._training[name].images[0]))

    def _file(self, split: str, item: Item) -> str:
        return self.options.image_name.format(split=split, image_id=item.cluster)

    @property
    def _count(self) -> int:
        """How many demonstrations stand in a prompt."""
        if self._way.shots or self.options.zero_shot is None:
            return self._way.shots or self._way.zero_shot
        return self.options.zero_shot

    @property
    def _way(self) -> FewShot:
        assert isinstance(self.protocol, FewShot)
        return self.protocol

    def _chooser(self, seed: int) -> Callable[[Item], list[Item]]:
        """Item -> its demonstrations in the order in which they are shown."""
        options, pool, count = self.options, list(self._training.values()), self._count
        if not count:
            return lambda item: []
        if options.demonstrations == "random":
            drawn = random.Random(f"{seed}/query set").sample(pool, min(options.query_set, len(pool)))
            return lambda item: at_random(drawn, item, count, seed)
        nearest = self._nearest

        def choose(item: Item) -> list[Item]:
            found = nearest.choose(item, count)
            if options.order == "shuffled":
                random.Random(f"{seed}/{item.id}").shuffle(found)
            return found[::-1] if options.order == "nearest-last" else found

        return choose

    @cached_property
    def _nearest(self) -> Nearest:
        options = self.options
        cache = options.cache or options.train_questions.with_name(f"{options.train_questions.name}.features")
        pool = list(self._training.values())
        if options.demonstrations == "instruction":
            return Nearest(pool, of_questions)
        seen = [dataclasses.replace(one, images=(self._picture(one.id),)) for one in pool]
        return Nearest(seen, OfPictures(options.encoder, cache))

    def conversation(self, item: Item) -> Conversation:
        """The demonstrations, a turn and its answer each, and the question. 0 shots shows none of their images."""
        messages: list[Message] = []
        media: list[Media] = []

        def ask(one: Item, picture: Path | None) -> None:
            lead = self._way.between if messages else self.options.intro
            content: list[Part] = [text(lead)] if lead else []
            prompt = self.protocol.text(one)
            if picture is None:
                prompt = prompt.lstrip()  # what stands behind an image
            else:
                content.append(image(len(media)))
                media.append(Media(path=str(picture)))
            messages.append(Message(role="user", content=[*content, text(prompt)]))

        for name in item.facts["demonstrations"]:
            one = self._training[name]
            ask(one, self._picture(name) if self._way.shots else None)
            messages.append(Message(role="assistant", content=[text(self._answer(one))]))
        ask(item, item.images[0])
        return Conversation(id=item.id, messages=messages, media=media, task=item.kind or None)

    def _answer(self, one: Item) -> str:
        if self.options.answer == "first":
            return one.answers[0]
        return Counter(one.answers).most_common(1)[0][0]  # of equally many, the first


BENCHMARK = FewShotVqa

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
