"""ScienceQA: two questions of the test split with a picture, one without, one of another split."""

from __future__ import annotations

from pathlib import Path

from tests.evaluation.miniatures.miniature import LETTER, Miniature, write_json, write_pictures


def problem(question: str, answer: int, hint: str, image: str | None, split: str = "test") -> dict[str, object]:
    facts = {"grade": "grade3", "subject": "natural science", "split": split}
    return {"question": question, "choices": ["ice", "fog"], "answer": answer, "hint": hint, "image": image, **facts}


def write(folder: Path) -> Miniature:
    problems = {
        "5": problem("Which is solid?", 0, "", "image.png"),
        "3": problem("Which {choices} is wet?", 1, "Look {question}.", "image.png"),
        "9": problem("Which is cold?", 0, "", None),
        "1": problem("Other?", 0, "", "image.png", "train"),
    }
    write_json(folder / "scienceqa/problems.json", problems)
    write_json(folder / "scienceqa/pid_splits.json", {"train": ["1"], "test": ["3", "5", "9"]})
    write_pictures(folder / "images", "test/5/image.png", "3/image.png")
    return Miniature(
        options=[f"folder={folder / 'scienceqa'}", f"images={folder / 'images'}"],
        items=["3", "5"],
        prompts={
            "llava-1.5": (
                "3",
                f"<image>\nContext: Look {{question}}.\nWhich {{choices}} is wet?\nA. ice\nB. fog\n{LETTER}",
            ),
            "cqm": ("5", f"<image>\nContext: N/A\nQuestion: Which is solid?\nOptions: (A) ice (B) fog\n{LETTER}"),
        },
        perfect={"3": "B", "5": "The answer is A."},
        needed={
            "scienceqa/problems.json": r"problems\.json does not exist; needed is: ScienceQA of lupantech",
            "images": r"images does not exist; needed is: ScienceQA of lupantech",
            "images/3/image.png": r"the image 3/image\.png or test/3/image\.png is not in .*; needed is: ScienceQA",
        },
    )
