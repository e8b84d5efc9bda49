"""Interleaved dialogues of several pictures, in TextBind's way (arXiv 2309.08637, section 3).

    pictures with captions ──features, k-means──▶ topics ──a few pictures of one──▶ <img0>caption</img0> ... ──▶ reply
        ──cleaned──▶ turns with images in their places, the assistant's too

A language model sees captions alone, each within a numbered tag, and writes a dialogue in which a tag stands where its
picture is shown or produced. Each picture has its part in one dialogue, so no reply can come twice.

A reply that is no dialogue (nobody speaks as `Human:`, turns do not alternate, or fewer than three) is of the wrong
form and asked for again: no part of it can be used, and a model that is told so mends it. Where a dialogue has not kept
to its pictures, it is dropped and counted, as in the original: those are faults of judgement, and asking again until
they no longer show would keep what is only better hidden. The original's patterns know one digit, ours any number.

`raw` cleans TextBind's own raw records in the same way; nobody can be asked again there, so every rule drops. Without a
model the dialogues come of `worlds/picture_talk.py`, and say nothing that the captions do not.
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from mminstruct.building import BadItem, Builder, Job
from mminstruct.building.clip import Clip
from mminstruct.building.clusters import distances, k_means
from mminstruct.building.prompt import Prompt, Told, dialogue
from mminstruct.building.request import Parameters
from mminstruct.building.rows import rows
from mminstruct.building.words import text_vectors
from mminstruct.config import Config, load_yaml, validate
from mminstruct.conversation import Conversation, Media, Message, Part, Record, TextPart, image, text
from mminstruct.data_builders.worlds import picture_talk
from mminstruct.data_builders.worlds.picture_talk import tagged
from mminstruct.data_builders.worlds.scenes import Scene, scene
from mminstruct.data_builders.worlds.slides import Slide, a_or_an, slide
from mminstruct.errors import ConfigError, DataError, MediaError, ReplyError
from mminstruct.evidence.measures import edit_distance
from mminstruct.media import open_image

PROMPTS = Path(__file__).parent / "prompts" / "textbind.yaml"
LEAST_TURNS = 3
MOST_CHANGED = 0.1  # edits for each character of a caption

_LOG = logging.getLogger(__name__)
_TAG = re.compile(r"<(/?)img(\d{1,6})>")
_PAIR = re.compile(r"<img(\d{1,6})>(.*?)</img\1>", re.DOTALL)
_SPEAKER = re.compile(r"^[ \t]*(Human|Assistant):", re.MULTILINE)


class RefusedError(ReplyError):
    """A reply that a rule leaves out; the message is the rule."""


@dataclass(frozen=True)
class Turn:
    """What one says: texts, and numbers of pictures."""

    speaker: Literal["Human", "Assistant"]
    content: list[str | int]

    @property
    def pictures(self) -> list[int]:
        return [part for part in self.content if isinstance(part, int)]


def split_turns(reply: str) -> list[tuple[str, str]]:
    """(speaker, text) of each turn. Raises `RefusedError` where they do not speak by turns, the human first."""
    found = list(_SPEAKER.finditer(reply))
    if "Human" not in [match[1] for match in found]:
        raise RefusedError("nobody speaks as Human:")
    ends = [match.start() for match in found[1:]] + [len(reply)]
    turns = [(match[1], reply[match.end() : end].strip()) for match, end in zip(found, ends, strict=True)]
    if any(speaker != ("Human", "Assistant")[number % 2] for number, (speaker, _) in enumerate(turns)):
        raise RefusedError("Human: and Assistant: do not speak by turns, Human: first")
    if len(turns) < LEAST_TURNS:
        raise RefusedError(f"there are fewer than {LEAST_TURNS} turns")
    return turns


def clean(reply: str, captions: Sequence[str], job: Job) -> list[Turn]:
    """The turns of a reply about pictures; tags without a partner in their turn are taken out and counted.

    Raises:
        Refused: one of the rules leaves the reply out.
    """
    opened = Counter(int(number) for end, number in _TAG.findall(reply) if not end)
    if any(count > 1 for count in opened.values()):
        raise RefusedError("a picture stands twice")
    if any(int(number) >= len(captions) for _, number in _TAG.findall(reply)):
        raise RefusedError("a tag has a number that no picture has")
    spoken = split_turns(reply)
    if not any(_PAIR.search(said) for _, said in spoken):
        raise RefusedError("no picture stands between a pair of tags")
    if "<image>" in reply:
        raise RefusedError("a text holds the mark <image>")
    turns = [Turn(speaker, _content(said, captions, job)) for speaker, said in spoken]  # type: ignore[arg-type]
    if turns[-1].speaker == "Human":  # nothing could be learned of it
        job.drop("a last turn without an answer")
        turns.pop()
        if len(turns) < LEAST_TURNS or not any(turn.pictures for turn in turns):
            raise RefusedError("too little is left without the turn that has no answer")
    return turns


def _content(said: str, captions: Sequence[str], job: Job) -> list[str | int]:
    """The parts of a turn. Raises `RefusedError` where a caption is another than was given."""
    content: list[str | int] = []
    position = 0
    for pair in _PAIR.finditer(said):
        number = int(pair[1])
        given, written = captions[number].strip(), pair[2].strip()
        if edit_distance(given, written) > MOST_CHANGED * len(given):
            raise RefusedError("a caption was changed")
        content += [_untagged(said[position : pair.start()], job), number]
        position = pair.end()
    content.append(_untagged(said[position:], job))
    return [part for part in content if part != ""]


def _untagged(said: str, job: Job) -> str:
    stripped, count = _TAG.subn("", said)
    if count:
        job.drop("a tag without its partner", count)
    return stripped


class TextBindPrompt(Prompt[list[str], str]):
    """Captions to a reply that is a dialogue."""

    name = "textbind/dialogue"
    parameters: ClassVar[Parameters] = Parameters(temperature=1.0, top_p=1.0, max_tokens=2048)

    def __init__(self, file: Path) -> None:
        self.told = validate(Told, load_yaml(file), where=str(file))

    def messages(self, facts: list[str]) -> list[Message]:
        return dialogue(self.told, "\n".join(tagged(number, caption) for number, caption in enumerate(facts)))

    def parse(self, reply: str, facts: list[str]) -> str:
        split_turns(reply)
        return reply.strip()

    def template(self, facts: list[str], rng: random.Random) -> str:
        return picture_talk.dialogue(facts, rng)


class Described(Record):
    """One line of a file of pictures."""

    image: str
    caption: str = Field(min_length=1)
    url: str = ""


class Raw(Record):
    """One of TextBind's raw records: a reply, captions within their tags, and numbers that pictures are called by."""

    response: str
    image: list[str] = Field(min_length=1)
    image_idx: list[int | str]
    url: list[str] = Field(default_factory=list)


@dataclass(frozen=True)
class Picture:
    """A picture with its caption, and its file or the world that it is drawn from."""

    id: str
    caption: str
    source: Path | Scene | Slide
    url: str = ""
    where: str = ""


@dataclass(frozen=True)
class Group:
    """The pictures of one dialogue; of a raw record, its reply, and whether an earlier one has the same."""

    id: str
    topic: int | None
    pictures: tuple[Picture, ...]
    reply: str | None = None
    again: bool = False


class TextBind(Builder[Group]):
    name = "textbind"
    version = "1"
    summary = "Interleaved dialogues in which both sides show pictures of one topic, written of captions."
    licence = "Apache-2.0"
    asks = True

    class Options(Config):
        """What is built.

        Args:
            pictures: how many procedural ones, scenes and slides in turn, where no file is given.
            least, most: how many pictures a dialogue is given.
            topics: clusters of pictures.
            least_of_topic: clusters of fewer pictures are noise and left out.
            noisy: the share of the other clusters that is left out, those whose pictures are least alike.
            features: what is clustered: words of the captions, colours of the pictures, or vectors of a CLIP model.
            clip: the folder of that model, as open_clip saves it; nothing is downloaded.
            seed: of pictures, clusters and choices.
            captions: JSON lines of {"image", "caption"} and perhaps "url" instead.
            raw: a file of TextBind's raw records instead; nobody is asked.
            media_root: the folder of these files' pictures; left out, the file's own. Raw ones are NUMBER.png.
            prompts: a YAML file of a system text and examples instead of ours, such as dialogues that people chose.
        """

        pictures: int = Field(default=300, ge=1)
        least: int = Field(default=2, ge=1)
        most: int = Field(default=4, ge=1)
        topics: int = Field(default=16, ge=1)
        least_of_topic: int = Field(default=4, ge=1)
        noisy: float = Field(default=0.1, ge=0, lt=1)
        features: Literal["captions", "colours", "clip"] = "captions"
        clip: Path | None = None
        seed: int = 0
        captions: Path | None = None
        raw: Path | None = None
        media_root: Path | None = None
        prompts: Path | None = None

    options: Options

    def items(self) -> Iterator[Group | BadItem]:
        if self.options.most < self.options.least:
            raise ConfigError(f"most is {self.options.most}, less than least, {self.options.least}; exchange them")
        if self.options.raw is not None:
            yield from self._raw(self.options.raw)
            return
        found = list(self._pictures())
        yield from (one for one in found if isinstance(one, BadItem))
        once: dict[str, Picture] = {}
        for one in found:
            if isinstance(one, Picture):  # two of one caption could not be told apart
                once.setdefault(one.caption, one)
        looked = [(one, self._feature(one)) for one in once.values()]
        yield from (bad for _, bad in looked if isinstance(bad, BadItem))
        pictures = [one for one, feature in looked if not isinstance(feature, BadItem)]
        features = [feature for _, feature in looked if not isinstance(feature, BadItem)]
        for topic, members in enumerate(self._topics(pictures, features)):
            chance = random.Random(f"textbind/{self.options.seed}/{topic}")
            chance.shuffle(members)
            number = 0
            while len(members) >= self.options.least:
                chosen = members[: chance.randint(self.options.least, self.options.most)]
                del members[: len(chosen)]
                yield Group(f"{topic}/{number}", topic, tuple(pictures[index] for index in chosen))
                number += 1

    def make(self, item: Group, job: Job) -> Iterator[Conversation]:
        captions = [picture.caption for picture in item.pictures]
        answers = [] if item.reply is not None else [job.ask(self._prompt, captions)]
        try:
            if item.again:
                raise RefusedError("the same reply again")
            turns = clean(answers[0].value if item.reply is None else item.reply, captions, job)
        except RefusedError as refused:
            job.drop(str(refused))
            return
        order = [number for turn in turns for number in turn.pictures]
        place = {number: position for position, number in enumerate(order)}
        yield Conversation(
            id=f"textbind/{item.id}",
            messages=[_message(turn, place) for turn in turns],
            media=[_saved(item.pictures[number], job) for number in order],
            task="textbind",
            extra={"conversation": [_lists(turn, item.pictures) for turn in turns]}
            | ({} if item.topic is None else {"topic": item.topic}),
            provenance=job.provenance([item.pictures[number].id for number in order], *answers),
        )

    @functools.cached_property
    def _prompt(self) -> TextBindPrompt:
        return TextBindPrompt(self.options.prompts or PROMPTS)

    def _pictures(self) -> Iterator[Picture | BadItem]:
        path = self.options.captions
        if path is None:
            for number in range(self.options.pictures):
                drawn = (scene, slide)[number % 2](self.options.seed, number // 2)
                yield Picture(drawn.id, _caption(drawn), drawn)
            return
        root = self.options.media_root or path.parent
        yield from rows(
            path, Described, lambda where, one: Picture(one.image, one.caption, root / one.image, one.url, where)
        )

    def _topics(self, pictures: list[Picture], features: Sequence[np.ndarray | None]) -> list[list[int]]:
        """Indices of the pictures of each topic that is left, the closest first."""
        if not pictures:
            raise DataError(f"{self.options.captions} has no pictures; write one a line")
        vectors = self._vectors(pictures, features)
        labels, centres = k_means(vectors, self.options.topics, self.options.seed)
        away = distances(vectors, centres)
        clusters = []
        for cluster in range(len(centres)):
            members = np.flatnonzero(labels == cluster).tolist()
            if len(members) >= self.options.least_of_topic:
                clusters.append((float(away[members, cluster].mean()), members))
        clusters.sort()
        kept = len(clusters) - int(self.options.noisy * len(clusters))
        _LOG.info(
            "%d of %d topics are left, with %d of %d pictures",
            kept,
            len(centres),
            sum(len(members) for _, members in clusters[:kept]),
            len(pictures),
        )
        return [members for _, members in clusters[:kept]]

    def _feature(self, picture: Picture) -> np.ndarray | BadItem | None:
        """A picture's vector; None where captions are compared."""
        if self.options.features == "captions":
            return None
        if self._clip is None and self.options.features == "clip":
            raise ConfigError("features=clip needs a model; give its folder as clip=DIR")
        try:
            opened = _opened(picture)
        except MediaError as error:
            return BadItem(picture.where, MediaError(f"{picture.where}: {error}"))
        return _colours(opened) if self._clip is None else self._clip.image(opened)[0]

    @functools.cached_property
    def _clip(self) -> Clip | None:
        return Clip(self.options.clip) if self.options.features == "clip" and self.options.clip is not None else None

    def _vectors(self, pictures: list[Picture], features: Sequence[np.ndarray | None]) -> np.ndarray:
        """A vector of whole numbers for each picture."""
        given = [one for one in features if one is not None]
        if len(given) < len(pictures):
            return text_vectors([picture.caption for picture in pictures])
        if self._clip is None:
            return np.stack(given)
        found = np.stack(given)
        return np.rint(1024 * found / np.linalg.norm(found, axis=1, keepdims=True))

    def _raw(self, path: Path) -> Iterator[Group | BadItem]:
        root = self.options.media_root or path.parent
        seen: set[str] = set()
        numbers = itertools.count()

        def group(where: str, record: Raw) -> Group:
            urls = record.url or [""] * len(record.image)
            if not len(record.image) == len(record.image_idx) == len(urls):
                raise DataError(f"{where} has not as many of image, image_idx and url; mend or drop it")
            pictures = tuple(
                Picture(f"{name}.png", _TAG.sub("", caption).strip(), root / f"{name}.png", url, where)
                for caption, name, url in zip(record.image, record.image_idx, urls, strict=True)
            )
            again = record.response in seen
            seen.add(record.response)
            return Group(f"raw/{next(numbers)}", None, pictures, record.response, again)

        yield from rows(path, Raw, group)

    def where(self, item: Group) -> str:
        return item.pictures[0].where if item.reply is not None else ""


def _caption(drawn: Scene | Slide) -> str:
    """One caption, that no other picture is likely to have."""
    if isinstance(drawn, Scene):
        return drawn.captions()[0]
    figure = a_or_an(drawn.shape.name) if drawn.shape else f"a bar chart of {drawn.texts('caption')[0]}"
    return f'A slide titled "{drawn.title}" with {figure} and the points {json.dumps(drawn.texts("bullet"))[1:-1]}'


def _opened(picture: Picture) -> Image.Image:
    return open_image(picture.source) if isinstance(picture.source, Path) else picture.source.draw().convert("RGB")


def _colours(picture: Image.Image) -> np.ndarray:
    """How many of 4,096 pixels have each of 512 colours."""
    red, green, blue = (np.asarray(channel).astype(int) // 32 for channel in picture.resize((64, 64)).split())
    return np.bincount((red * 64 + green * 8 + blue).ravel(), minlength=512).astype(np.float32)


def _saved(picture: Picture, job: Job) -> Media:
    if isinstance(picture.source, Path):
        try:
            return job.copy(picture.source, picture.id)
        except MediaError as error:
            raise MediaError(f"{picture.where}: {error}") from None
    return job.save(picture.source.draw(), picture.id)


def _message(turn: Turn, place: dict[int, int]) -> Message:
    content: list[Part] = [image(place[part]) if isinstance(part, int) else text(part) for part in turn.content]
    if content and isinstance(content[0], TextPart):
        content[0] = text(content[0].text.lstrip())
    if content and isinstance(content[-1], TextPart):
        content[-1] = text(content[-1].text.rstrip())
    role: Literal["user", "assistant"] = "user" if turn.speaker == "Human" else "assistant"
    return Message(role=role, content=[part for part in content if not isinstance(part, TextPart) or part.text])


def _lists(turn: Turn, pictures: Sequence[Picture]) -> dict[str, list[str]]:
    """Captions and addresses of a turn's pictures, as TextBind's format has them."""
    shown = [pictures[number] for number in turn.pictures]
    if not shown:
        return {}
    return {"caption_list": [one.caption for one in shown], "url_list": [one.url for one in shown]}


BUILDER = TextBind
