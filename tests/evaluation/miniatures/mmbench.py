"""MMBench: a row a question, the second row's image is that of the first, one question with two options."""

from __future__ import annotations

from pathlib import Path

from tests.evaluation.miniatures.miniature import LETTER, Miniature, base64_png, write_table

ROWS = (
    ("7", "What is it?", "nan", "cat", "dog", "fox", "", "C", base64_png(1)),
    ("8", "Is it one?", "Look closely.", "yes", "no", "nan", "", "A", "7"),
)
COLUMNS = ("index", "question", "hint", "A", "B", "C", "D", "answer", "image")
PERFECT = {"7": "C", "1000007": "B.", "2000007": "A", "8": "A", "1000008": "B"}


def rows() -> list[dict[str, str]]:
    found = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]
    return [row | {"category": "object", "l2-category": "coarse_perception", "split": "dev"} for row in found]


def write(folder: Path) -> Miniature:
    file = write_table(folder / "dev.tsv", rows())
    return Miniature(
        options=[f"file={file}"],
        items=["7", "1000007", "2000007", "8", "1000008"],
        prompts={
            "llava-1.5": ("1000007", f"<image>\nWhat is it?\nA. dog\nB. fox\nC. cat\n{LETTER}"),
            "llava-1.5-cn": ("8", "<image>\nLook closely.\nIs it one?\nA. yes\nB. no\n请直接回答选项字母。"),
            "first-token": ("8", f"<image>\nLook closely.\nIs it one?\nA. yes\nB. no\n{LETTER}"),
        },
        perfect=PERFECT,
        needed={"dev.tsv": r"dev\.tsv does not exist; needed is: MMBench of open-compass.*mmbench_dev_20230712\.tsv"},
    )
