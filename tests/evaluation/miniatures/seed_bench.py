"""SEED-Bench: two questions on a picture and one on a video, which is not asked without `video_images`."""

from __future__ import annotations

from pathlib import Path

from tests.evaluation.miniatures.miniature import LETTER, Miniature, write_json, write_pictures


def question(name: str, data_id: str, kind: int, data_type: str, answer: str) -> dict[str, object]:
    choices = {"choice_a": "one", "choice_b": "two", "choice_c": "three", "choice_d": "four"}
    facts = {"data_id": data_id, "question_type_id": kind, "data_type": data_type, "answer": answer}
    return {"question_id": name, "question": f"How many ({name})?", **choices, **facts}


def write(folder: Path) -> Miniature:
    questions = [
        question("101", "12_34", 5, "image", "B"),
        question("v44", "clip.webm", 10, "video", "D"),
        question("102", "12_34", 5, "image", "C"),
    ]
    types = {"Instances Counting": 5, "Action Recognition": 10}
    file = write_json(folder / "SEED-Bench.json", {"questions": questions, "question_type": types})
    write_pictures(folder / "SEED-Bench-image", "12_34")
    write_pictures(folder / "SEED-Bench-video-image", "10_v44.png")
    prompt = f"<image>\nHow many ({{0}})?\nA. one\nB. two\nC. three\nD. four\n{LETTER}"
    return Miniature(
        options=[f"file={file}", f"images={folder / 'SEED-Bench-image'}"],
        items=["101", "102"],
        prompts={"llava-1.5": ("v44", prompt.format("v44")), "first-token": ("101", prompt.format("101"))},
        perfect={"101": "B", "102": "C"},
        needed={
            "SEED-Bench.json": r"SEED-Bench\.json does not exist; needed is: SEED-Bench of AILab-CVC",
            "SEED-Bench-image/12_34": r"the image 12_34 is not in .*; needed is: SEED-Bench of AILab-CVC",
        },
        more={"llava-1.5": [f"video_images={folder / 'SEED-Bench-video-image'}"]},
    )
