"""POPE and MME in miniature."""

from __future__ import annotations

from pathlib import Path

from ..scorers.files import write_lines
from . import Miniature, picture
from .photographs import SHORT

TASKS = (
    *("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR"),
    *("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"),
)


def write_pope(folder: Path) -> list[str]:
    coco = folder / "coco"
    coco.mkdir()
    for name, other in (("random", "dog"), ("popular", "chair"), ("adversarial", "truck")):
        rows = [("snowboard", "yes"), (other, "no")]
        lines = [
            {
                "question_id": number,
                "image": "COCO_val2014_000000310196.jpg",
                "text": f"Is there a {thing} in the image?",
                "label": label,
            }
            for number, (thing, label) in enumerate(rows, start=1)
        ]
        write_lines(coco / f"coco_pope_{name}.json", lines)
    picture(folder / "val2014" / "COCO_val2014_000000310196.jpg")
    return [f"questions={coco}", f"images={folder / 'val2014'}"]


def write_mme(folder: Path) -> list[str]:
    """One image in each task; five tasks keep images and questions apart, as the benchmark has it."""
    for number, task in enumerate(TASKS):
        apart = task in ("posters", "celebrity", "scene", "landmark", "artwork")
        home = folder / "MME" / task
        questions = home / "questions_answers_YN" if apart else home
        picture((home / "images" if apart else home) / f"{number:012}{'.jpg' if number % 2 else '.png'}")
        questions.mkdir(parents=True, exist_ok=True)
        double = "  " if task == "artwork" else " "
        lines = [
            f"Is this a thing of {task}?{double}Please answer yes or no.\tYes",
            f"Is this no thing of {task}?{double}Please answer yes or no.\tNo",
        ]
        (questions / f"{number:012}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [f"questions={folder / 'MME'}"]


MINIATURES = [
    Miniature(
        "pope",
        write_pope,
        prompts={
            "llava-1.5": f"<image>\nIs there a snowboard in the image?{SHORT}",
            "bare": "<image>\nIs there a snowboard in the image?",
        },
        perfect={
            f"{name}/{number}": "Yes" if number == 1 else "No"
            for name in ("adversarial", "popular", "random")
            for number in (1, 2)
        },
        images=("COCO_val2014_000000310196.jpg",),
        needs={"coco": "AoiDragon/POPE", "val2014": "val2014", "val2014/COCO_val2014_000000310196.jpg": "AoiDragon"},
        empty=2 / 3,  # the official script takes all that is no "no" for a yes: precision 1/2, recall 1
        first={"kind": "adversarial", "cluster": "COCO_val2014_000000310196.jpg"},
    ),
    Miniature(
        "mme",
        write_mme,
        prompts={
            "llava-1.5": f"<image>\nIs this a thing of existence?{SHORT}",
            "official": "<image>\nIs this a thing of existence? Please answer yes or no.",
            "lmms-eval": f"<image>\nIs this a thing of existence?{SHORT}",
        },
        perfect={
            f"{task}/{number:012}/Is this {word} thing of {task}?": answer
            for number, task in enumerate(TASKS)
            for word, answer in (("a", "Yes"), ("no", "No."))
        },
        images=("000000000000.png",),
        needs={"MME": "MME_Benchmark_release_version", "MME/scene/images": "MME_Benchmark_release_version"},
        best=2800.0,
        first={"kind": "existence"},
    ),
]
