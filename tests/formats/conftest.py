"""Random conversations that use every field and every odd place of media, from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from mminstruct.conversation import (
    Conversation,
    ImagePart,
    Media,
    Message,
    Part,
    Preference,
    Provenance,
    Role,
    TextPart,
)

PIECES = [
    *("What is this?", "\n", " ", "  two spaces ", "\t", "\r\n", "\x00", "\u2028", "\u0085"),
    *("日本語の質問", "Привет", "عربى", "😀👩‍👩‍👧", "é", '"quoted"', "\\n", "back\\slash", "{}", "[1]"),
    *("<IMAGE>", "<image", "image>", "<video>", "<im_start>", "</s>"),
]

MakeConversations = Callable[..., list[Conversation]]


def _text(rng: random.Random) -> str:
    # The end keeps a text from becoming the mark `<image>` together with its neighbour.
    return "".join(rng.choices(PIECES, k=rng.randint(1, 5))) + "."


def _message(rng: random.Random, role: Role, media: int, roles_with_images: tuple[Role, ...], odd: bool) -> Message:
    content: list[Part] = []
    for _ in range(rng.choice([0, 1, 1, 2, 4, 10])):
        if media and role in roles_with_images and rng.random() < 0.5:
            content.append(ImagePart(index=rng.randrange(media)))
        elif odd or not content or isinstance(content[-1], ImagePart):
            content.append(TextPart(text="" if odd and rng.random() < 0.2 else _text(rng)))
    return Message(role=role, content=content)


def _one(rng: random.Random, number: int, odd: bool) -> Conversation:
    media = [
        Media(
            path=rng.choice(["a b/ü.png", "/abs/x.jpg", "data:image/png;base64,AAAA", f"images/{number}-{index}.png"]),
            sha256=rng.choice([None, "0" * 64]),
            width=rng.choice([None, 64]),
            height=rng.choice([None, 48]),
            timestamps=rng.choice([None, [0.5]]),
        )
        for index in range(rng.choice([0, 0, 1, 1, 2, 10]))
    ]
    opening: list[Role] = ["system"] * rng.randint(0, 1)
    pair: list[Role] = ["user", "assistant"]
    roles = opening + pair * rng.randint(1, 4)
    messages = [_message(rng, role, len(media), ("user", "assistant"), odd) for role in roles]
    preference = None
    if rng.random() < 0.2:
        chosen, rejected = (_message(rng, "assistant", len(media), ("assistant",), odd) for _ in range(2))
        preference = Preference(chosen=[chosen], rejected=[rejected])
    turns = messages + ([*preference.chosen, *preference.rejected] if preference else [])
    used = {part.index for message in turns for part in message.content if isinstance(part, ImagePart)}
    # Whatever has no place yet gets one, in order or not, so that ten images in a turn are common.
    unused = sorted(set(range(len(media))) - used, reverse=rng.random() < 0.2)
    target = messages[1 if roles[0] == "system" else 0]
    target.content[:0] = [ImagePart(index=index) for index in unused]
    extras: list[dict[str, Any] | None] = [
        None,
        {},
        {"a": None, "b": [1, {"ü": "<image>"}]},
        {"id": "taken"},
        {"conversations": 1, "messages": [], "conversation": {}},
        {"unique_id": 1, "image_dir": "x"},
        {"file_name": "x", "image": 1},
    ]
    per_turn = [{"weight": index} for index in range(len(messages))]
    extras += [{"conversations": per_turn}, {"messages": per_turn, "k": 1}, {"conversation": per_turn}]
    extras += [{"conversations": per_turn, "messages": per_turn}]
    for keys in ({}, {"from": 1}, {"role": 1}, {"thoughts": 1}):  # none, and those that a turn has itself
        extras += [{name: [keys for _ in messages]} for name in ("conversations", "messages", "conversation")]
    return Conversation(
        id=rng.choice([f"test/{number}", f"тест {number}"]),
        messages=messages,
        media=media,
        options=rng.choice([None, [], ["A", "日本"]]),
        answers=rng.choice([None, ["yes"]]),
        task=rng.choice([None, "set+task"]),
        context_ids=rng.choice([None, ["x/1"]]),
        passages=rng.choice([None, ["passage"]]),
        preference=preference,
        scores=rng.choice([None, {"clip": 0.1, "ifd": -2.5e-9}]),
        extra=rng.choice(extras),
        provenance=rng.choice([None, Provenance(builder="b", version="1", parents=["p"], call_ids=["c"])]),
    )


@pytest.fixture
def random_conversations() -> MakeConversations:
    """(seed, count, odd) to conversations. `odd` ones have empty and neighbouring text parts too."""

    def make(seed: int, count: int = 100, odd: bool = False) -> list[Conversation]:
        rng = random.Random(seed)
        return [_one(rng, number, odd) for number in range(count)]

    return make
