"""MMMB: two languages of three; the Chinese table has its rotations, the English one a row a question."""

from __future__ import annotations

from pathlib import Path

from tests.evaluation.miniatures.miniature import LETTER, Miniature, base64_png, write_table


def row(index: int, question: str, options: tuple[str, str], answer: str, image: str) -> dict[str, str]:
    texts = {"A": options[0], "B": options[1], "C": "", "D": ""}
    return {"index": str(index), "question": question, **texts, "answer": answer, "image": image, "category": "c"}


def write(folder: Path) -> Miniature:
    write_table(folder / "MMMB/MMMB_en.tsv", [row(0, "Which?", ("left", "right"), "B", base64_png(1))])
    chinese = [
        row(0, "哪一个？", ("左", "右"), "B", base64_png(1)),
        row(1_000_000, "哪一个？", ("右", "左"), "A", "0"),
    ]
    write_table(folder / "MMMB/MMMB_cn.tsv", chinese)
    write_table(folder / "MMMB/MMMB_ru.tsv", [row(0, "Что?", ("a", "b"), "A", base64_png(2))])
    return Miniature(
        options=[f"folder={folder / 'MMMB'}", "languages=[cn, en]"],
        items=["cn/0", "cn/1000000", "en/0", "en/1000000"],
        prompts={
            "llava-1.5": ("cn/0", "<image>\n哪一个？\nA. 左\nB. 右\n请直接回答选项字母。"),
            "english-line": ("en/1000000", f"<image>\nWhich?\nA. right\nB. left\n{LETTER}"),
        },
        perfect={"cn/0": "B", "cn/1000000": "A", "en/0": "B", "en/1000000": "A"},
        needed={
            "MMMB": r"MMMB does not exist; needed is: MMMB of AIDC-AI/Parrot",
            "MMMB/MMMB_en.tsv": r"has no questions in en; needed is: MMMB of AIDC-AI/Parrot",
        },
    )
