"""M2RAG's captions: a picture and one that was retrieved."""

from __future__ import annotations

from pathlib import Path

from tests.evaluation.miniatures.miniature import Miniature, write_lines, write_pictures


def write(folder: Path) -> Miniature:
    queries = write_lines(
        folder / "cap.jsonl",
        {"id": 1, "image_path": "a.png", "image_caption": "A red door in a wall"},
        {"id": 2, "image_path": "b.png", "image_caption": "Two old boats on a lake"},
    )
    near = {"image_path": "c.png", "image_caption": "A gate"}
    retrieved = write_lines(folder / "found.jsonl", {"id": 1, "cands": [near]}, {"id": 2, "cands": []})
    write_pictures(folder, "a.png", "b.png", "c.png")
    told = (
        "The first picture needs a caption; the others were retrieved for it, with their captions. Reply with the "
        "caption of the first picture and nothing else."
    )
    return Miniature(
        options=[f"queries={queries}", f"retrieved={retrieved}"],
        items=["1", "2"],
        prompts={
            "retrieved": (
                "1",
                f"<image><image>\n{told}\n\nPicture: the first one\nRetrieved captions: [1] A gate\n\nCaption:",
            ),
            "no-retrieval": ("2", "<image>\nReply with a caption of the picture and nothing else.\n\nCaption:"),
        },
        perfect={"1": "A red door in a wall", "2": "Two old boats on a lake"},
        needed={"found.jsonl": r"found\.jsonl does not exist; needed is: M2RAG of NEUIR"},
    )
