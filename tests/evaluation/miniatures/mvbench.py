"""MVBench: a task whose videos are cut and one whose are whole."""

from __future__ import annotations

from pathlib import Path

from tests.evaluation.miniatures.miniature import LETTER, Miniature, write_json, write_videos

SYSTEM = (
    "Carefully watch the video and pay attention to the cause and sequence of events, the detail and movement of "
    "objects, and the action and pose of persons. Based on your observations, select the best option that accurately "
    "addresses the question.\n"
)


def write(folder: Path) -> Miniature:
    sequence = {"video": "a.mp4", "question": "What first?", "candidates": ["Sat.", "Ran."], "answer": "Ran."}
    count = {"video": "b.mp4", "question": "How often?", "candidates": ["1", "2", "3"], "answer": "3"}
    write_json(folder / "json/action_sequence.json", [sequence | {"start": 1.0, "end": 4.5}])
    write_json(folder / "json/action_count.json", [count])
    write_videos(folder / "video", "star/Charades_segment/a.mp4", "perception/videos/b.mp4")
    return Miniature(
        options=[f"questions={folder / 'json'}", f"videos={folder / 'video'}"],
        items=["action_count/0", "action_sequence/0"],
        prompts={
            "videochat2": (
                "action_sequence/0",
                f"<video>\n{SYSTEM}Question: What first?\nOptions:\n(A) Sat.\n(B) Ran.\nOnly give the best option.",
            ),
            "lmms-eval": (
                "action_count/0",
                f"<video>\nQuestion:How often?\nOption:\n(A) 1\n(B) 2\n(C) 3\n{LETTER}",
            ),
        },
        perfect={"action_count/0": "(C) 3", "action_sequence/0": "B"},
        needed={
            "json": r"json does not exist; needed is: OpenGVLab/MVBench",
            "video/perception/videos/b.mp4": r"the video perception/videos/b\.mp4 is not in .*video; needed is: OpenGV",
        },
    )
