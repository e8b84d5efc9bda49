"""MMMU: two subjects, a question with two images and options, and an open one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.evaluation.miniatures.miniature import LETTER, Miniature, struct, write_parquet


def row(name: str, question: str, options: str, answer: str, kind: str, images: int) -> dict[str, Any]:
    cells = {f"image_{number}": struct(number) if number <= images else None for number in range(1, 8)}
    return {"id": name, "question": question, "options": options, "answer": answer, "question_type": kind} | cells


ART = row(
    "validation_Art_1",
    "Compare <image 2> with <image 1>. Which is older?",
    "['<image 1>', \"Bach's\"]",
    "B",
    "multiple-choice",
    2,
)
FINANCE = row("validation_Finance_2", "Sum in <image 1>?", "[]", "['$6,000', '6000']", "open", 1)


def write(folder: Path) -> Miniature:
    write_parquet(folder / "MMMU/Art/validation-00000-of-00001.parquet", [ART])
    write_parquet(folder / "MMMU/Art/dev-00000-of-00001.parquet", [ART | {"id": "dev_Art_1"}])
    write_parquet(folder / "MMMU/Finance/validation-00000-of-00001.parquet", [FINANCE])
    return Miniature(
        options=[f"data={folder / 'MMMU'}"],
        items=["validation_Art_1", "validation_Finance_2"],
        prompts={
            "llava-1.5": (
                "validation_Art_1",
                "<image>\nCompare <image 2> with <image 1>. Which is older?\n\n(A) <image 1>\n(B) Bach's\n\n\n"
                + LETTER,
            ),
            "lmms-eval": (
                "validation_Art_1",
                f"Compare <image> with <image>. Which is older?\nA. <image>\nB. Bach's\n\n{LETTER}",
            ),
        },
        perfect={"validation_Art_1": "B", "validation_Finance_2": "The sum is 6000."},
        empty=0.5,  # an unread answer gets a random option, which is here the right one
        needed={
            "MMMU": r"MMMU does not exist; needed is: MMMU/MMMU: data=DIR",
            "MMMU/Art/validation-00000-of-00001.parquet": r"Art has no file validation-\*\.parquet",
        },
    )
