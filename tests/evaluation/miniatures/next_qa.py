"""NExT-QA: val.csv, one video in VidOR's folder and one beside it."""

from __future__ import annotations

from pathlib import Path

from tests.evaluation.miniatures.miniature import LETTER, Miniature, write_json, write_table, write_videos


def row(video: str, qid: str, kind: str, answer: str) -> dict[str, str]:
    options = {f"a{number}": text for number, text in enumerate(("sit", "run", "jump", "eat", "play "))}
    return {"video": video, "qid": qid, "question": f"why {qid} ", "answer": answer, "type": kind} | options


def write(folder: Path) -> Miniature:
    file = write_table(folder / "val.csv", [row("4010", "6", "CW", "4"), row("55", "0", "DC", "1")], ",")
    table = write_json(folder / "map_vid_vidorID.json", {"4010": "1164/4010", "55": "0000/55"})
    write_videos(folder / "videos", "1164/4010.mp4", "55.mp4")
    prompt = f"<video>\nwhy 6\nA. sit\nB. run\nC. jump\nD. eat\nE. play\n{LETTER}"
    return Miniature(
        options=[f"file={file}", f"videos={folder / 'videos'}", f"map={table}"],
        items=["4010_6", "55_0"],
        prompts={"lmms-eval": ("4010_6", prompt), "first-token": ("4010_6", prompt)},
        perfect={"4010_6": "E", "55_0": "B. run"},
        needed={
            "val.csv": r"val\.csv does not exist; needed is: NExT-QA of doc-doc",
            "map_vid_vidorID.json": r"map_vid_vidorID\.json does not exist; needed is: NExT-QA of doc-doc",
            "videos/55.mp4": r"the video 0000/55\.mp4 or 55\.mp4 is not in .*videos; needed is: NExT-QA",
        },
    )
