"""EgoSchema: two of three questions have public answers."""

from __future__ import annotations

from pathlib import Path

from tests.evaluation.miniatures.miniature import LETTER, Miniature, write_json, write_videos


def write(folder: Path) -> Miniature:
    options = {f"option {number}": f"C does {number}." for number in range(5)}
    questions = [{"q_uid": name, "question": f"What does C do ({name})?"} | options for name in ("u1", "u2", "u3")]
    write_json(folder / "questions.json", questions)
    file = write_json(folder / "subset_answers.json", {"u3": 4, "u1": 0})
    write_videos(folder / "videos", "u1.mp4", "u3.mp4")
    prompt = "<video>\nWhat does C do (u3)?\nA. C does 0.\nB. C does 1.\nC. C does 2.\nD. C does 3.\nE. C does 4.\n"
    return Miniature(
        options=[f"file={file}", f"videos={folder / 'videos'}"],
        items=["u3", "u1"],
        prompts={"lmms-eval": ("u3", prompt + LETTER)},
        perfect={"u3": "E", "u1": "A"},
        needed={
            "subset_answers.json": r"subset_answers\.json does not exist; needed is: EgoSchema",
            "questions.json": r"questions\.json does not exist; needed is: EgoSchema",
            "videos/u1.mp4": r"the video u1\.mp4 is not in .*videos; needed is: EgoSchema",
        },
    )
