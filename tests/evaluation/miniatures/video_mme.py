"""Video-MME: a row a question as the data set has them, two videos, one with subtitles."""

from __future__ import annotations

from pathlib import Path

from tests.evaluation.miniatures.miniature import Miniature, write_parquet, write_videos

ASKED = (
    "Respond with only the letter (A, B, C, or D) of the correct option.\nWho ({0})?\nA. Ann.\nB. Bob.\nC. Cy.\nD. Di."
)
SELECT = "Select the best answer to the following multiple-choice question based on the video"
SRT = """1
00:00:01,000 --> 00:00:02,000
<font color="white" size=".72c">Hello,</font>
<font color="white" size=".72c">all.</font>

2
00:00:03,000 --> 00:00:04,000


3
00:00:05,000 --> 00:00:06,000
<font color="white" size=".72c">Bye.</font>
"""


def row(name: str, video: str, youtube: str, answer: str) -> dict[str, object]:
    facts = {"duration": "short", "domain": "Knowledge", "sub_category": "Law", "task_type": "OCR Problems"}
    options = ["A. Ann.", "B. Bob.", "C. Cy.", "D. Di."]
    asked = {"question_id": name, "question": f"Who ({name})?", "options": options, "answer": answer}
    return {"video_id": video, "videoID": youtube, "url": f"https://www.youtube.com/watch?v={youtube}"} | facts | asked


def write(folder: Path) -> Miniature:
    rows = [row("001-1", "001", "xYz_9", "B"), row("001-2", "001", "xYz_9", "D"), row("002-1", "002", "q-1", "A")]
    file = write_parquet(folder / "test-00000-of-00001.parquet", rows)
    write_videos(folder / "data", "xYz_9.mp4", "q-1.mkv")
    (folder / "subtitle").mkdir()
    (folder / "subtitle/xYz_9.srt").write_bytes(SRT.replace("\n", "\r\n").encode())
    subtitled = f"{SELECT} and the subtitles. {ASKED.format('001-2')}\nThe best answer is:"
    return Miniature(
        options=[f"file={file}", f"videos={folder / 'data'}"],
        items=["001-1", "001-2", "002-1"],
        prompts={
            "without-subtitles": ("002-1", f"<video>\n{SELECT}. {ASKED.format('002-1')}\nThe best answer is:"),
            "with-subtitles": (
                "001-2",
                f"<video>\nThis video's subtitles are listed below:\nHello, all.\nBye.\n{subtitled}",
            ),
        },
        perfect={"001-1": "B", "001-2": "D.", "002-1": "The answer is A"},
        needed={
            "test-00000-of-00001.parquet": r"parquet does not exist; needed is: Video-MME of BradyFU",
            "data/q-1.mkv": r"the video q-1\.mp4 or q-1\.MP4 or q-1\.mkv is not in .*data; needed is: Video-MME",
        },
        more={"with-subtitles": [f"subtitles={folder / 'subtitle'}"]},
    )
