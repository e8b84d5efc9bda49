"""M2RAG's questions: what was retrieved is a text, a picture with a caption and one without."""

from __future__ import annotations

from pathlib import Path

from tests.evaluation.miniatures.miniature import Miniature, write_lines, write_pictures


def write(folder: Path) -> Miniature:
    queries = write_lines(
        folder / "mmqa.jsonl",
        {"id": 7, "query": "Which {hue} is it?", "answer": ["It is red."], "pos_text": "gold"},
        {"id": 8, "query": "Who built it?", "answer": ["Ann built it."]},
    )
    pictures = [{"image_path": "p/a.png", "image_caption": "A door"}, {"image_path": "p/b.png"}]
    retrieved = write_lines(
        folder / "retrieved.jsonl", {"id": "7", "cands": ["It  is red", *pictures, "x"]}, {"id": 8, "cands": []}
    )
    write_pictures(folder, "p/a.png", "p/b.png")
    told = (
        "Answer the question from the retrieved pictures, their captions and the retrieved texts, as far as they "
        "belong to it. Write one complete sentence and nothing else."
    )
    return Miniature(
        options=[f"queries={queries}", f"retrieved={retrieved}", "top_k=3"],
        items=["7", "8"],
        prompts={
            "retrieved": (
                "7",
                f"<image><image>\n{told}\n\nQuestion: Which {{hue}} is it?\nRetrieved captions: [1] A door\n"
                "Retrieved texts: [1] It is red\n\nAnswer:",
            ),
            "no-retrieval": (
                "8",
                "Answer the question in one complete sentence and write nothing else.\n\nQuestion: Who built it?\n\n"
                "Answer:",
            ),
        },
        perfect={"7": "It is red.", "8": "Ann built it."},
        needed={
            "mmqa.jsonl": r"mmqa\.jsonl does not exist; needed is: M2RAG of NEUIR",
            "p/b.png": r"the image p/b\.png is not in .*whole; needed is: M2RAG",
        },
    )
