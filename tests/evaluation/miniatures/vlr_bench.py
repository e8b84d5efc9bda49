"""VLR-Bench: a question in two languages; of the Korean one no passage is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.evaluation.miniatures.miniature import Miniature, struct, write_parquet


def row(language: str, question: str, output: str, keywords: tuple[str, str], number: int) -> dict[str, Any]:
    passages = {f"passage{place}": f"{language} {place}" for place in range(1, 6)}
    golds = {"output": output, "keyword1": keywords[0], "keyword2": keywords[1], "language": language}
    return {"image": struct(number), "question": question} | passages | golds


def write(folder: Path) -> Miniature:
    rows = [
        row("en", "Which rock {is} it?", "It is Uluru, of the Anangu.", ("Uluru", "Anangu"), 1),
        row("zh", "这是什么？", "这是乌鲁鲁。", ("乌鲁鲁", "这"), 1),
        row("ko", "무엇입니까?", "울루루", ("울루루", "울"), 2),
    ]
    write_parquet(folder / "VLR/data/test-00000-of-00001.parquet", rows)
    listed = "\n\n".join(f"Passage {place}: en {place}" for place in range(1, 6))
    told = (
        "Answer the question about the picture with the help of the passages. Not all of them belong to it, and "
        "perhaps none does."
    )
    return Miniature(
        options=[f"data={folder / 'VLR'}", "languages=[en, zh]"],
        items=["0", "1"],
        prompts={
            "passages": ("0", f"<image>\n{told}\n\n{listed}\n\nQuestion: Which rock {{is}} it?"),
            "no-passages": ("1", "<image>\n这是什么？"),
        },
        perfect={"0": "The Anangu call it uluru.", "1": "这是乌鲁鲁。"},
        needed={"VLR": r"VLR does not exist; needed is: MLP-KTLim/VLR-Bench"},
    )
