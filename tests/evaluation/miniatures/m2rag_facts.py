"""M2RAG's facts: the document and its picture stand in the file and are not shown."""

from __future__ import annotations

from pathlib import Path

from tests.evaluation.miniatures.miniature import Miniature, write_lines, write_pictures


def claim(name: int, category: str) -> dict[str, object]:
    document = {"document": "A secret.", "document_image": "never.png"}
    return {"id": name, "claim": f"Claim {name}.", "claim_image": f"{name}.png", "category": category} | document


def write(folder: Path) -> Miniature:
    queries = write_lines(folder / "facts.jsonl", claim(1, "Support_Text"), claim(2, "Refute"))
    retrieved = write_lines(
        folder / "found.jsonl", {"id": 1, "cands": ["One.", {"image_path": "n.png"}]}, {"id": 2, "cands": []}
    )
    write_pictures(folder, "1.png", "2.png", "n.png")
    told = (
        "Check a claim that came with the first picture against the retrieved pictures and texts and what you know. "
        "Choose Support where they agree with it, Refute where they disagree, Insufficient where they leave it open. "
        "Reply with the one word."
    )
    return Miniature(
        options=[f"queries={queries}", f"retrieved={retrieved}"],
        items=["1", "2"],
        prompts={
            "retrieved": (
                "1",
                f"<image><image>\n{told}\n\nClaim picture: the first one\nClaim: Claim 1.\n"
                "Retrieved texts: [1] One.\n\nCategory:",
            ),
            "no-retrieval": (
                "2",
                "<image>\nCheck a claim that came with the picture against what you know. Choose Support, Refute or "
                "Insufficient and reply with the one word.\n\nClaim: Claim 2.\n\nCategory:",
            ),
        },
        perfect={"1": "Support", "2": "refute."},
        needed={"1.png": r"the image 1\.png is not in .*whole; needed is: M2RAG of NEUIR"},
    )
