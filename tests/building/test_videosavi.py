"""VideoSAVi's builder, both variants: by the clips' pixels chosen answers are true and rejected ones not; filters."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mminstruct import formats
from mminstruct.building import BuildConfig, Job, load_builder, run
from mminstruct.building.asking import Asker, AskingConfig
from mminstruct.building.call_log import CallLog
from mminstruct.building.clients import BatchClient, BatchConfig, OpenAICompatibleClient, ReplayClient
from mminstruct.building.limits import Budget, BudgetConfig, Rate, RateConfig
from mminstruct.conversation import Conversation, VideoPart
from mminstruct.data_builders import videosavi
from mminstruct.data_builders.worlds.clip_facts import sentences
from mminstruct.data_builders.worlds.clips import clip
from mminstruct.errors import DataError, MediaError, ReplyError
from mminstruct.media import encode_clip
from tests.building.batch_server import good, serving_batches
from tests.building.chat_server import digest, serving
from tests.building.clip_pixels import Pixels
from tests.building.test_builders import bytes_of

CLIPS = 10


@pytest.fixture(scope="module", params=["critique", "candidates"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("videosavi") / "set"
    run(load_builder("videosavi", [f"clips={CLIPS}", f"variant={request.param}", "frames=4", "questions=4"]), out)
    return out


def parts(one: Conversation) -> tuple[str, str, str]:
    assert one.preference is not None
    return one.messages[0].text.strip(), one.preference.chosen[0].text, one.preference.rejected[0].text


def test_chosen_answers_are_true_and_rejected_ones_are_not(built: Path) -> None:
    judged: Counter[str] = Counter()
    by_clip: dict[str, list[Conversation]] = {}
    for one in formats.read(built):
        by_clip.setdefault(one.media[0].path, []).append(one)
    assert len(by_clip) == CLIPS
    for number, (path, found) in enumerate(by_clip.items()):
        pixels = Pixels(built / path, " ".join(told for _, _, told in sentences(clip(0, number))))
        for one in found:
            question, chosen, rejected = parts(one)
            right = pixels.true(question, chosen)
            if right is not None:
                judged[str((one.extra or {})["question_type"])] += 1
                assert right and not pixels.true(question, rejected), (one.id, question, chosen, rejected)
    assert judged["spatial"] >= 4 and judged["temporal"] >= 8


def test_records_hold_the_clip_the_frames_times_and_all_calls(built: Path) -> None:
    kinds = Counter()
    for one in formats.read(built):
        assert one.media[0].kind == "video" and (built / one.media[0].path).is_file()
        assert isinstance(one.messages[0].content[0], VideoPart)
        length = clip(0, int(one.id.split("/")[3])).length
        # the middles of four equal stretches, to the frame
        assert one.media[0].timestamps == [int(length / 4 * (number + 0.5)) / 10 for number in range(4)]
        extra = one.extra or {}
        kinds[extra["question_type"]] += 1
        assert extra["iteration"] == 1 and one.provenance is not None
        steps = len(one.provenance.call_ids)
        if one.scores is None:
            assert (
                extra["critique"] and extra["evidence"] and steps == 6
            )  # question, answer, critique, revision, 2 checks
        else:
            assert (
                one.scores["chosen"] >= one.scores["rejected"] + 2 and steps == 8
            )  # question, 4 answers, 4 scores, ...
        assert videosavi.normal(parts(one)[1]) != videosavi.normal(parts(one)[2])
    assert kinds["spatial"] > CLIPS and kinds["temporal"] > CLIPS


class Viewer:
    """A model that answers by what the last message says, for one clip of one question of each type."""

    def __init__(self, **replies: Any) -> None:
        self.replies = {
            "questions": {"questions": ["What is there?"]},
            "answer": "A red disc.",
            "critique": {"critique": "It is blue.", "evidence": ["At 0.1 s the disc is blue."]},
            "revision": "A blue disc.",
            "better": "A blue disc.",
        } | replies
        self.pictures: list[int] = []

    def __call__(self, body: dict[str, Any]) -> str:
        system, content = body["messages"][0]["content"], body["messages"][-1]["content"]
        if isinstance(content, str):
            content = body["messages"][1]["content"]
        self.pictures.append(sum(part["type"] == "image_url" for part in content))
        last = content[-1].get("text", "")
        steps = {"Write 1 questions": "questions", "Check the answer": "critique", "answer anew": "revision"}
        steps |= {"Write 3 answers": "candidates"}
        step = next((name for words, name in steps.items() if words in system), "answer")
        if "how well the answer agrees" in system:
            return json.dumps({"score": 9 if self.replies["better"] in last else 2})
        if "two answers" in system:
            first = re.findall(r"Answer 1: (.*)", last)[0]
            return json.dumps({"better": 1 if first == self.replies["better"] else 2})
        said = self.replies[step]
        return said if isinstance(said, str) else json.dumps(said)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/a.mp4").write_bytes(encode_clip(clip(0, 0).frames()[:20], 10))
    (folder / "notes.txt").write_text("no clip")
    return folder


@pytest.mark.parametrize(
    ("replies", "dropped"),
    [
        ({}, {}),
        ({"critique": {"critique": "All is right.", "evidence": []}}, {"the critique names no evidence": 1}),
        ({"critique": {"critique": " ", "evidence": ["x"]}}, {"the critique names no evidence": 1}),
        ({"revision": "a RED  disc", "better": "-"}, {"the chosen answer is the rejected one": 1}),
        ({"revision": "blue " * 10}, {"one answer is much longer than the other": 1}),
        ({"better": "A red disc."}, {"the model does not stand by the chosen answer": 1}),
    ],
)
def test_filters_drop_and_count(
    replies: dict[str, Any], dropped: dict[str, int], own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a model on a server, which sees the frames as pictures."""
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    viewer = Viewer(**replies)
    where = "clips=1" if dropped else f"videos={own}"
    builder = load_builder("videosavi", [where, "frames=3", "questions=1", "types=[temporal]"])
    with serving(viewer) as server, CallLog(tmp_path / "calls.sqlite") as log:
        client = OpenAICompatibleClient("m", [server.url])
        if dropped:
            rate, budget = Rate(RateConfig()), Budget(BudgetConfig())
            asker = Asker(client, log, tmp_path, AskingConfig(), budget, rate)
            item = next(iter(builder.items()))
            job = Job(builder, item.id, tmp_path, asker)
            assert not list(builder.make(item, job)) and job.dropped == dropped
        else:
            manifest = run(builder, tmp_path / "set", client=client)
        client.close()
    if dropped:
        return
    assert set(viewer.pictures) == {3} and manifest.builder is not None and "dropped" not in manifest.builder
    (one,) = formats.read(tmp_path / "set")
    assert parts(one) == ("What is there?", "A blue disc.", "A red disc.")
    assert one.media[0].path == "videos/deep/a.mp4" and one.media[0].timestamps == [0.3, 1.0, 1.6]
    assert (tmp_path / "set/videos/deep/a.mp4").read_bytes() == (own / "deep/a.mp4").read_bytes()


@pytest.mark.parametrize(("variant", "rounds"), [("critique", [4, 4, 4, 4, 8]), ("candidates", [4, 4, 12, 8])])
def test_batches_take_a_round_a_stage_and_build_the_same(
    variant: str, rounds: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many questions there are: two clips have one of each type, whose steps do not wait for each other's."""
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    replies = Viewer(candidates={"answers": ["A blue disc.", "A red disc.", "A cat."]})

    def viewer(body: dict[str, Any]) -> str:
        said = replies(body)  # each type has a question of its own
        return said.replace("What is there?", f"What is there, by {digest(body)}?")

    options = ["clips=2", "frames=2", "questions=1", f"variant={variant}", "candidates=3"]
    with serving(viewer) as server:
        client = OpenAICompatibleClient("m", [server.url])
        run(load_builder("videosavi", options), tmp_path / "chat", client=client)
        client.close()
    with serving_batches(lambda body, sent: good(viewer(body))) as server:
        batches = BatchClient("m", server.url, config=BatchConfig(poll=0.0))
        run(load_builder("videosavi", options), tmp_path / "batch", client=batches)
        batches.close()
    assert [len(questions) for questions in server.questions()] == rounds
    assert bytes_of(tmp_path / "batch") == bytes_of(tmp_path / "chat")
    assert len(list(formats.read(tmp_path / "chat"))) == 4
    with CallLog(tmp_path / "chat/calls.sqlite") as log:
        config = BuildConfig(calls=tmp_path / "chat/calls.sqlite", workers=2)
        run(load_builder("videosavi", options), tmp_path / "replay", config, client=ReplayClient(log))
    assert bytes_of(tmp_path / "replay") == bytes_of(tmp_path / "chat")


def test_replies_of_another_form_are_refused() -> None:
    looked = videosavi.Looked((0.0,), (), count=3, question="What?")
    for prompt, reply, problem in (
        (videosavi.QuestionsPrompt(), "1. What?", "not JSON"),
        (videosavi.QuestionsPrompt(), '{"questions": ["", " "]}', "all questions are empty"),
        (videosavi.QuestionsPrompt(), '{"questions": ["A?", "a?"]}', "stands twice"),
        (videosavi.AnswerPrompt(), " .. ", "the answer is empty"),
        (videosavi.CritiquePrompt(), '{"evidence": []}', "critique: Field required"),
        (videosavi.CandidatesPrompt(), '{"answers": ["A.", "a", "B"]}', "two answers are the same"),
        (videosavi.CandidatesPrompt(), '{"answers": ["A", "B"]}', "there are 2 answers; write 3"),
        (videosavi.ScorePrompt(), '{"score": 11}', "score: "),
        (videosavi.CheckPrompt(), '{"better": 3}', "better: "),
    ):
        with pytest.raises(ReplyError, match=problem):
            prompt.parse(reply, looked)


def test_broken_clips_are_one_line_or_a_dead_letter(own: Path, tmp_path: Path) -> None:
    whole = (own / "deep/a.mp4").read_bytes()
    (own / "b.mp4").write_bytes(b"")
    with pytest.raises(MediaError, match=r"b\.mp4 has 0 bytes") as caught:
        run(load_builder("videosavi", [f"videos={own}"]), tmp_path / "a")
    assert "\n" not in str(caught.value)
    (own / "c.mp4").write_bytes(whole[: whole.index(b"mdat") + 60])
    run(load_builder("videosavi", [f"videos={own}", "frames=3"]), tmp_path / "b", BuildConfig(on_error="skip"))
    letters = [json.loads(line) for line in (tmp_path / "b/dead-letters.jsonl").read_text().splitlines()]
    assert [(one["item"], one["reason"]) for one in letters] == [("b.mp4", "media"), ("c.mp4", "media")]
    with pytest.raises(DataError, match="holds no pictures and no videos"):
        run(load_builder("videosavi", [f"videos={tmp_path / 'a'}"]), tmp_path / "d")
