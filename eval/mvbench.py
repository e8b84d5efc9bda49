"""MVBench (Li et al., CVPR 2024, arXiv 2311.17005): 20 tasks on short videos, 200 questions each, with options.

    json/action_sequence.json [{video, question, candidates, answer, (start, end)}], ...
    video/star/Charades_segment/VIDEO.mp4, ... (each task has a folder of its own)

Some questions are about a part of a video, from `start` to `end`. A video is shown whole here, so the folders with the
parts already cut are needed for these tasks, as the data set's revision `video` has them. The authors begin the answer
for the model, "Best option:(", which a chat model cannot be made to go on with: the line is left out, and
`mvbench.guarded` counts an answer without a letter as wrong, where `official` would count an empty one as right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mminstruct.config import Config
from mminstruct.conversation import Conversation
from mminstruct.errors import DataError
from mminstruct.eval.mmbench import LETTER
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol, one_question
from mminstruct.evaluation.local_files import Pictures, found
from mminstruct.evaluation.parsing.letters import lettered
from mminstruct.evaluation.scorers.mvbench import read_gold

SYSTEM = (
    "Carefully watch the video and pay attention to the cause and sequence of events, the detail and movement of "
    "objects, and the action and pose of persons. Based on your observations, select the best option that accurately "
    "addresses the question.\n"
)
FOLDERS = {
    "action_antonym": ("ssv2_video", "ssv2_video_mp4"),
    "action_count": ("perception/videos",),
    "action_localization": ("sta/sta_video_segment",),
    "action_prediction": ("star/Charades_segment",),
    "action_sequence": ("star/Charades_segment",),
    "character_order": ("perception/videos",),
    "counterfactual_inference": ("clevrer/video_validation",),
    "egocentric_navigation": ("vlnqa",),
    "episodic_reasoning": ("tvqa/video_fps3_hq_segment",),
    "fine_grained_action": ("Moments_in_Time_Raw/videos",),
    "fine_grained_pose": ("nturgbd", "nturgbd_convert"),
    "moving_attribute": ("clevrer/video_validation",),
    "moving_count": ("clevrer/video_validation",),
    "moving_direction": ("clevrer/video_validation",),
    "object_existence": ("clevrer/video_validation",),
    "object_interaction": ("star/Charades_segment",),
    "object_shuffle": ("perception/videos",),
    "scene_transition": ("scene_qa/video",),
    "state_change": ("perception/videos",),
    "unexpected_action": ("FunQA_test/test",),
}
"""The folder of each task's videos, by its names in the data set's revisions."""


class MvBench(Benchmark):
    name = "mvbench"
    summary = "MVBench: 20 tasks of multiple choice on short videos."
    primary_scorer = "mvbench.guarded"
    further_scorers = ("mvbench.official", "mvbench.lmms-eval")
    protocols = (
        Protocol(
            name="videochat2",
            source="OpenGVLab/Ask-Anything, video_chat2/mvbench.ipynb, without the answer's beginning",
            max_new_tokens=100,
            prompt="\n" + SYSTEM + "Question: {question}\nOptions:\n{options}\nOnly give the best option.",
        ),
        Protocol(
            name="lmms-eval",
            source="lmms-eval, tasks/mvbench/utils.py, with the post_prompt of mvbench_action_sequence.yaml",
            max_new_tokens=16,
            prompt="\nQuestion:{question}\nOption:\n{options}\n" + LETTER,
        ),
    )
    licence = "MIT (OpenGVLab/Ask-Anything); the videos have licences of their own"
    data = (
        "OpenGVLab/MVBench: questions=json/ with a file for each task, and videos=video/ with the folders of the "
        "revision `video` (star/Charades_segment, perception/videos, ...)"
    )

    class Options(Config):
        """The folder of the tasks' files, or one of them, and the folder of videos."""

        questions: Path
        videos: Path

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where a file or a video is missing or not as described, or a task is not known."""
        videos = Pictures(self.options.videos, self.data, "video")
        for item in read_gold(found(self.options.questions, self.data)):
            if item.kind not in FOLDERS:
                raise DataError(f"{self.options.questions} has the task {item.kind!r}; known are {', '.join(FOLDERS)}")
            names = [f"{folder}/{path}" for path in item.videos for folder in FOLDERS[item.kind]]
            yield replace(item, videos=(videos.named(*names),))

    def conversation(self, item: Item) -> Conversation:
        options = "\n".join(f"({letter}) {text}" for letter, text in lettered(item.choices).items())
        return one_question(item, self.protocol.text(item).replace("{options}", options))


BENCHMARK = MvBench

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
