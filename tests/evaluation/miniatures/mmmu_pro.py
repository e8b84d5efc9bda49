"""MMMU-Pro: a question in each of the three sets."""

from __future__ import annotations

from pathlib import Path

from tests.evaluation.miniatures.miniature import Miniature, struct, write_parquet

DIRECT = "Answer with the option letter from the given choices directly."
LAST = (
    "The last line of your response should be of the following format: 'Answer: $LETTER' (without quotes) where "
    "LETTER is one of options."
)
STEPS = "Think step by step before answering."
THINK = f"Answer the preceding multiple choice question. {LAST} {STEPS}"
WRITE = f"Write out the multiple-choice question in the image and then solve it. {LAST} {STEPS}"


def write(folder: Path) -> Miniature:
    row = {"id": "test_Music_3", "question": "Which key has <image 2>?", "subject": "Music", "answer": "B"}
    images = {"image_1": struct(1), "image_2": struct(2), "image_3": None}
    ten, four = "['C', 'D', '<image 1>']", "['C', 'D']"
    name = "test-00000-of-00001.parquet"
    write_parquet(folder / "pro/standard (10 options)" / name, [row | images | {"options": ten}])
    write_parquet(folder / "pro/standard (4 options)" / name, [row | images | {"options": four}])
    bare = {key: value for key, value in row.items() if key != "question"}
    write_parquet(folder / "pro/vision" / name, [bare | {"options": ten, "image": struct(4)}])
    item = "test_Music_3"
    asked = "<image><image>\nWhich key has [image]?\nA. C\nB. D\nC. [image]\n"
    asked_4 = "<image>\nWhich key has [image]?\nA. C\nB. D\n"
    return Miniature(
        options=[f"data={folder / 'pro'}", "cache=" + str(folder / "images")],
        items=[item],
        prompts={
            "standard-10-direct": (item, asked + DIRECT),
            "standard-10-cot": (item, asked + THINK),
            "standard-4-direct": (item, asked_4 + DIRECT),
            "standard-4-cot": (item, asked_4 + THINK),
            "vision-direct": (item, f"<image>\n{DIRECT} {LAST}"),
            "vision-cot": (item, f"<image>\n{WRITE}"),
        },
        perfect={item: "It is D major.\nAnswer: B"},
        needed={"pro/standard (10 options)": r"standard \(10 options\) does not exist; needed is: MMMU/MMMU_Pro"},
    )
