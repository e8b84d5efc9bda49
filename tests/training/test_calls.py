"""As many calls of each module whatever a micro-batch holds: ZeRO-3 gathers weights call by call."""

from __future__ import annotations

import pytest
import torch

import mminstruct
from mminstruct.conversation import Conversation, ImagePart, Media, Message, TextPart, VideoPart
from mminstruct.media import Video
from mminstruct.models import in_step
from mminstruct.training import objectives
from tests.conftest import picture
from tests.models.native import FAMILIES, lively

# Frames of each medium of a conversation, 0 for a picture; a batch is a list of them.
BATCHES = {
    "text": [[], []],
    "pictures": [[0], [0, 0]],
    "clips": [[3], [2]],
    "one clip": [[5]],
    "all": [[0, 3], [], [0], [2, 1]],
}
NATIVE = ("text", "pictures")  # native models take the frames of a video as pictures


def sample(processor, frames: list[int]) -> dict[str, torch.Tensor]:
    parts = [VideoPart(index=n) if count else ImagePart(index=n) for n, count in enumerate(frames)]
    record = Conversation(
        id="calls",
        messages=[
            Message(role="user", content=[*parts, TextPart(text="what is it?")]),
            Message(role="assistant", content=[TextPart(text="a circle")]),
        ],
        media=[Media(path=f"{n}", kind="video" if count else "image") for n, count in enumerate(frames)],
    )
    opened = []
    for count in frames:
        shots = tuple(picture(seed, (40, 40)) for seed in range(max(count, 1)))
        opened.append(Video(shots, tuple(float(n) for n in range(count))) if count else shots[0])
    return processor.training_sample(record, opened)


@pytest.mark.parametrize("mode", ["training", "validation"])
@pytest.mark.parametrize("row", [*mminstruct.list_models("nano"), *mminstruct.list_models("nano-*"), *FAMILIES])
def test_each_module_is_called_equally_often_and_in_one_order(row, mode, monkeypatch):
    """Text, pictures, clips, and all in one batch; in evaluation mode where ZeRO-3 says that weights are divided."""
    model, processor = lively(row) if row in FAMILIES else mminstruct.create(row, tiny=True)
    if mode == "validation":
        monkeypatch.setattr(in_step, "is_deepspeed_zero3_enabled", lambda: True)
    model.train(mode == "training")
    called: list[str] = []
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.ModuleList):
            module.register_forward_pre_hook(lambda module, args, name=name: called.append(name))
    orders = {}
    for kind in NATIVE if row in FAMILIES else BATCHES:
        batch = processor.collate([sample(processor, frames) for frames in BATCHES[kind]], padding_side="right")
        called.clear()
        objectives.get("sft")(model, batch)
        orders[kind] = list(called)
    assert len(orders["text"]) > 10
    assert {kind: order for kind, order in orders.items() if order != orders["text"]} == {}
