"""Families of native models, one row each, with a conversation of two pictures."""

from __future__ import annotations

import copy
import functools

import torch

import mminstruct
from mminstruct.conversation import Conversation, Media, Message, image, text
from tests.conftest import picture

FAMILIES = [
    "qwen2.5-vl-3b",
    "qwen3-vl-2b",
    "smolvlm-256m",
    "llava-onevision-qwen2-0.5b",
    "internvl3-1b",
    "gemma-3-4b-it",
]

PICTURES = [picture(1, (50, 40)), picture(2, (90, 33))]


def talk(*turns, media: int = 0, name: str = "test/0") -> Conversation:
    """User and assistant in turn; a turn is a list of texts and of picture numbers."""
    messages = [
        Message(
            role="user" if index % 2 == 0 else "assistant",
            content=[text(part) if isinstance(part, str) else image(part) for part in turn],
        )
        for index, turn in enumerate(turns)
    ]
    return Conversation(id=name, messages=messages, media=[Media(path=f"{i}.png") for i in range(media)])


TWO_PICTURES = talk([0, "what is it?"], ["a blue circle"], ["is ", 1, "red?"], ["no"], media=2)
ONE_PICTURE = talk([0, "is the shape a circle?"], ["yes"], media=1)
TEXT_ONLY = talk(["is it red?"], ["it is blue"])


def lively(row: str):
    """The row's miniature with weights so large that what it says depends on what it sees; each time a model anew."""
    model, processor = _lively(row)
    torch.manual_seed(0)
    return copy.deepcopy(model), processor


@functools.cache
def _lively(row: str):
    torch.manual_seed(0)
    model, processor = mminstruct.create(row, tiny=True)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(0.2 * torch.randn_like(parameter))
    return model.eval(), processor


def batch_of(processor) -> dict[str, torch.Tensor]:
    """Two conversations with pictures and one without, as the model's inputs."""
    records = [(TWO_PICTURES, PICTURES), (ONE_PICTURE, PICTURES[1:]), (TEXT_ONLY, [])]
    samples = [processor.training_sample(record, pictures) for record, pictures in records]
    return {k: v for k, v in processor.collate(samples, padding_side="right").items() if k != "labels"}
