"""MMMT-IF: a chat of three turns and one of a single turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.evaluation.miniatures.miniature import Miniature, write_lines, write_pictures


def instruction(name: str, said: str, **kwargs: Any) -> dict[str, Any]:
    return {"id": name, "kwargs": kwargs, "text": said}


def write(folder: Path) -> Miniature:
    few = instruction("length_constraints:number_words", "Use at most 3 words.", relation="at least", num_words=1)
    word = instruction("keywords:existence", "Say moon.", keywords=["moon"])
    turns = [
        {"question": "What is it?", "images": ["a.png"], "instructions": [few]},
        {"question": "And these?", "images": ["b.png", "c.png"]},
        {"question": "Why?", "instructions": [word]},
    ]
    file = write_lines(folder / "chats.jsonl", {"id": "x", "turns": turns}, {"id": "y", "turns": [turns[2]]})
    write_pictures(folder, "a.png", "b.png", "c.png")
    return Miniature(
        options=[f"file={file}"],
        items=["x/1", "x/2", "x/3", "y/1"],
        prompts={
            "chat": ("x/1", "<image>\nUse at most 3 words.\nWhat is it?"),
            "instructions-repeated": (
                "x/3",
                "Say moon.\nWhy?\n\nFollow all of these instructions:\n- Use at most 3 words.\n- Say moon.",
            ),
        },
        perfect={"x/1": "a", "x/2": "b", "x/3": "moon", "y/1": "the moon"},
        needed={
            "chats.jsonl": r"chats\.jsonl does not exist; needed is: chats in the layout of docs/scorers",
            "c.png": r"the image c\.png is not in .*whole; needed is: chats",
        },
    )
