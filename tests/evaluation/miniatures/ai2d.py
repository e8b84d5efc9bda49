"""AI2D as the Parquet file of lmms-lab/ai2d."""

from __future__ import annotations

from pathlib import Path

from tests.evaluation.miniatures.miniature import LETTER, Miniature, struct, write_parquet

ROWS = (
    {"question": "Who eats A?", "options": ["B", "C", "D", "none"], "answer": "1", "image": struct(1)},
    {"question": "What is E?", "options": ["owl", "mouse", "oak", "sun"], "answer": "0", "image": struct(2)},
)


def write(folder: Path) -> Miniature:
    write_parquet(folder / "data/test-00000-of-00001.parquet", ROWS)
    prompt = f"<image>\nWhat is E?\nA. owl\nB. mouse\nC. oak\nD. sun\n{LETTER}"
    return Miniature(
        options=[f"file={folder}", f"cache={folder / 'images'}"],
        items=["0", "1"],
        prompts={"llava-1.5": ("1", prompt), "first-token": ("1", prompt)},
        perfect={"0": "B", "1": "A. owl"},
        needed={"data": r"has no file test-\*\.parquet; give the official folder"},
    )
