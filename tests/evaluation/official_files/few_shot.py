"""Few-shot VQA in miniature: two validation questions, 33 training questions whose order by likeness is plain.

Of the training questions the first four are the less alike the later they come, 28 are all alike and share no word, and
the last is the validation question itself, on its own image: it must never be shown.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ..scorers.files import write_json
from . import Miniature, picture, votes
from .photographs import SHORT

QUESTION = "What color is the big cat?"
ALIKE = (
    ("What color is the big cat?", "black"),
    ("What color is the big dog?", "brown"),
    ("What color is the tree?", "green"),
    ("Color?", "blue"),
)
OTHERS = 28
OWN_IMAGE = 900


def write_set(folder: Path, split: str, rows: list[tuple[int, str, str]]) -> tuple[Path, Path, Path]:
    """VQA's files of (image, question, answer); the first annotator says the answer, the others "other N"."""
    questions = [
        {"question_id": 1000 + number, "image_id": image, "question": text}
        for number, (image, text, _) in enumerate(rows)
    ]
    annotations = [
        {
            "question_id": 1000 + number,
            "image_id": image,
            "answer_type": "other",
            "question_type": "what",
            "answers": votes(answer, *["cat"] * 2, *[answer] * 7) if split != "val2014" else votes(answer),
        }
        for number, (image, _, answer) in enumerate(rows)
    ]
    for image, _, _ in rows:
        path = folder / split / f"COCO_{split}_{image:012}.jpg"
        if not path.exists():
            picture(path)
    return (
        write_json(folder / f"{split}_questions.json", {"data_subtype": split, "questions": questions}),
        write_json(folder / f"{split}_annotations.json", {"data_subtype": split, "annotations": annotations}),
        folder / split,
    )


def write(folder: Path) -> list[str]:
    training = [(number, text, answer) for number, (text, answer) in enumerate(ALIKE, start=1)]
    training += [(number, "Why?", f"because {number}") for number in range(5, 5 + OTHERS)]
    training += [(OWN_IMAGE, QUESTION, "never shown")]
    first = write_set(folder, "train2014", training)
    second = write_set(folder, "val2014", [(OWN_IMAGE, QUESTION, "white"), (901, "Why?", "it is late")])
    names = ("questions", "annotations", "images")
    options = [f"train_{name}={path}" for name, path in zip(names, first, strict=True)]
    options += [f"{name}={path}" for name, path in zip(names, second, strict=True)]
    return [*options, "demonstrations=instruction"]


def paint(folder: Path, split: str, image: int, colour: tuple[int, int, int], size: tuple[int, int] = (20, 20)) -> None:
    """Give an image one colour."""
    Image.new("RGB", size, colour).save(folder / split / f"COCO_{split}_{image:012}.jpg")


def expected(shots: int, before: str, behind: str, between: str) -> str:
    """The prompt with the first `shots` training questions, the most alike last; a bar between turns."""
    training = [*ALIKE, *(("Why?", f"because {number}") for number in range(5, 5 + OTHERS))]
    turns = []
    for text, answer in reversed(training[:shots]):
        turns += [f"<image>{before}{text}{behind}", answer]
    turns.append(f"<image>{before}{QUESTION}{behind}")
    return "|".join(turn if place % 2 or not place else between + turn for place, turn in enumerate(turns))


SHOTS = (4, 8, 16, 32)

MINIATURES = [
    Miniature(
        "few-shot-vqa",
        write,
        prompts={
            "open-flamingo-0": (
                "Question:What color is the big dog? Short answer:|brown|"
                "\nQuestion:What color is the big cat? Short answer:|black|"
                "\n<image>Question:What color is the big cat? Short answer:"
            ),
            "turns-0": f"<image>\nWhat color is the big cat?{SHORT}",
            **{f"open-flamingo-{shots}": expected(shots, "Question:", " Short answer:", "\n") for shots in SHOTS},
            **{f"turns-{shots}": expected(shots, "\n", SHORT, "") for shots in SHOTS},
        },
        perfect={"1000": "White", "1001": "it is late"},
        images=("COCO_val2014_000000000900.jpg",),
        needs={
            "val2014_questions.json": "train_questions",
            "train2014_annotations.json": "train_annotations",
            "train2014": "train_images",
            "train2014/COCO_train2014_000000000003.jpg": "train_images",
        },
        first={"kind": "other", "cluster": "900"},
    ),
]
