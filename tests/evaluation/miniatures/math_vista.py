"""MathVista: one question of each kind of answer, in testmini.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.evaluation.miniatures.miniature import Miniature, write_json, write_pictures


def problem(pid: str, kind: str, answer: str, **more: Any) -> dict[str, Any]:
    facts = {"image": f"images/{pid}.jpg", "unit": None, "precision": None, "choices": None, "metadata": {"task": "t"}}
    question = {"question": f"What is it ({pid})?", "answer_type": kind, "answer": answer, "query": f"Hint: {pid}"}
    return question | {"question_type": "multi_choice" if kind == "text" else "free_form"} | facts | more


def write(folder: Path) -> Miniature:
    problems = {
        "1": problem("1", "text", "elm", choices=["elm", "oak"]),
        "2": problem("2", "integer", "7"),
        "3": problem("3", "float", "1.2", precision=1.0, unit="$"),
        "4": problem("4", "list", "[1, 2]"),
    }
    file = write_json(folder / "testmini.json", problems)
    write_pictures(folder / "pictures", "images/1.jpg", "2.jpg", "images/3.jpg", "images/4.jpg")
    return Miniature(
        options=[f"file={file}", f"images={folder / 'pictures'}"],
        items=["1", "2", "3", "4"],
        prompts={
            "build-query": (
                "3",
                "<image>\nQuestion: What is it (3)? (Unit: $)\n"
                "Hint: Please answer the question requiring a floating-point number with one decimal place and provide "
                "the final value, e.g., 1.2, 1.3, 1.4, at the end.\nSolution:",
            ),
            "query": ("2", "<image>\nHint: 2"),
        },
        perfect={"1": "(A)", "2": "7", "3": "1.2", "4": "[1, 2]"},
        empty=0.25,  # the official rule gives an empty answer the option at the least edit distance: here the right one
        needed={
            "testmini.json": r"testmini\.json does not exist; needed is: MathVista of lupantech",
            "pictures/images/1.jpg": r"the image images/1\.jpg or 1\.jpg is not in .*pictures; needed is: MathVista",
        },
    )
