"""Tools that a model calls: what they find, what holds them, and the loop of answers and outputs."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from mminstruct.data_builders.worlds.scenes import scene
from mminstruct.errors import DataError, RunError
from mminstruct.formats.llava_plus import ToolTurn, serialise
from mminstruct.media import Video
from mminstruct.serving.chat import ChatSession
from mminstruct.serving.tool_process import ToolLimits
from mminstruct.serving.tools import ACTIONS, Feedback, Toolbox, ToolChat, example, parts
from tests.serving.scripted import ScriptedEngine

OWN = """
import os, socket, subprocess, time
import numpy as np
from pathlib import Path
from PIL import Image
from mminstruct.config import Config
from mminstruct.evidence.tool import Tool

class What(Config):
    do: str
    path: str = ""

class Naughty(Tool):
    name, version, does, arguments = "naughty", "1", "misbehaves; its argument do says how", What

    def run(self, picture, arguments):
        do = arguments.do
        if do == "sleep":
            subprocess.run(["sleep", "600"])
        if do == "memory":
            return {"sum": int(np.ones(2**31, np.int64).sum())}
        if do == "crash":
            os.kill(os.getpid(), 11)
        if do == "raise":
            raise KeyError("secret /home/someone")
        if do == "write":
            Path(arguments.path).write_text("x" * 100)
        if do == "child writes":
            done = subprocess.run(["sh", "-c", 'echo hello > "$0"', arguments.path], capture_output=True)
            return {"code": done.returncode}
        if do == "remove":
            Path(arguments.path).unlink()
        if do == "connect":
            socket.create_connection(("127.0.0.1", int(arguments.path)))
        if do == "print":
            print("noise on stdout")
        if do == "long":
            return {"text": "x" * 100_000}
        return {"pid": os.getpid(), "size": list(picture.size)}

    def pictures(self, picture, arguments):
        return [Image.new("RGB", (10_000, 10_000))] if arguments.do == "poster" else []

TOOLS = [Naughty()]
"""


def action(name: str, **params: Any) -> dict[str, Any]:
    return {"API_name": name, "API_params": params}


def answer(*actions: dict[str, Any], value: str = "Here it is.") -> str:
    return serialise(ToolTurn("I think.", list(actions), value))


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toolbox]:
    own = tmp_path_factory.mktemp("own") / "naughty.py"
    own.write_text(OWN)
    with Toolbox([str(own)], ToolLimits(seconds=3, memory=3 * 2**30)) as toolbox:
        yield toolbox


@pytest.fixture
def picture() -> Image.Image:
    return scene(0, 1).draw().convert("RGB")


# ---- the tools -------------------------------------------------------------------------------------------------------


def test_the_toolbox_tells_what_each_tool_takes(tools: Toolbox) -> None:
    for name in set(tools) - {"naughty"}:
        told = tools.run(action(name, **json.loads(example(tools[name]))), [Image.new("RGB", (60, 60), "white")])
        assert not told.failed, f"the example of {name} cannot be run"
    assert list(tools) == ["crop", "shape_detector", "shape_segmenter", "text_reader", "naughty"]
    assert tools.missing == []
    assert "reads the text" in tools["text_reader"].does
    assert json.loads(example(tools["crop"])) == {"box": [0.25, 0.25, 0.75, 0.75]}
    assert json.loads(example(tools["text_reader"])) == {"box": [0.0, 0.0, 1.0, 1.0]}
    assert json.loads(example(tools["shape_detector"])) == {"caption": "red circle . square"}


def test_boxes_of_shapes_are_those_that_the_scenes_were_drawn_with(tools: Toolbox) -> None:
    for number in range(20):
        drawn = scene(7, number)
        found = tools.run(action("shape_detector", caption="object"), [drawn.draw()]).output
        assert sorted(found["phrases"]) == sorted(thing.name for thing in drawn.things)
        truth = dict(drawn.boxes())
        for name, box in zip(found["phrases"], found["boxes"], strict=True):
            assert max(abs(a - b) for a, b in zip(box, truth[name], strict=True)) <= 0.01
        thing = drawn.things[0]
        areas = tools.run(action("shape_segmenter", caption=thing.name), [drawn.draw()]).output["areas"]
        share = {"square": 1, "circle": 0.785, "triangle": 0.5, "diamond": 0.5}[thing.shape]
        assert areas == [pytest.approx(share * (thing.side / 336) ** 2, abs=0.012)]


def test_text_is_read_where_it_stands(tools: Toolbox) -> None:
    page = Image.new("RGB", (600, 400), "white")
    pen = ImageDraw.Draw(page)
    pen.text((40, 40), "Departures today", fill="black", font=ImageFont.load_default(size=36))
    pen.text((40, 300), "Platform 7", fill="black", font=ImageFont.load_default(size=36))
    everything = tools.run(action("text_reader"), [page]).output
    assert everything["texts"] == ["Departures today", "Platform 7"]
    left, top, right, bottom = everything["boxes"][1]
    assert (left, top) == (pytest.approx(40 / 600, abs=0.03), pytest.approx(300 / 400, abs=0.04))
    assert right > left and bottom > top
    assert tools.run(action("text_reader", box=[0, 0.5, 1, 1]), [page]).output["texts"] == ["Platform 7"]


def test_a_crop_has_all_pixels_of_its_part(tools: Toolbox) -> None:
    large = Image.new("RGB", (2000, 1000), "white")
    ImageDraw.Draw(large).rectangle((500, 250, 999, 499), fill=(204, 41, 41))
    (cut,) = tools.run(action("crop", box=[0.25, 0.25, 0.5, 0.5]), [large]).pictures
    assert cut.size == (500, 250)
    assert cut.getcolors() == [(500 * 250, (204, 41, 41))]
    (beyond,) = tools.run(action("crop", box=[-1, 0, 0.25, 5]), [large]).pictures
    assert beyond.size == (500, 1000)


def test_a_call_means_the_newest_picture_or_the_one_that_it_names(tools: Toolbox) -> None:
    small, wide = Image.new("RGB", (10, 10)), Image.new("RGB", (30, 10))
    whole = [0, 0, 1, 1]
    assert tools.run(action("crop", box=whole), [small, wide], newest=1).pictures[0].size == (30, 10)
    named = tools.run(action("crop", box=whole, image=0), [small, wide], newest=1)
    assert named.pictures[0].size == (10, 10) and named.picture is small


@pytest.mark.parametrize(
    ("asked", "pictures", "told"),
    [
        (action("crp", box=[0, 0, 1, 1]), 1, "no tool is called 'crp'. Did you mean 'crop'?"),
        ({"API_params": {}}, 1, "the action names no tool; API_name is one of crop"),
        ({"API_name": "crop", "API_params": [1]}, 1, "crop needs its API_params as an object"),
        (action("crop"), 1, "crop cannot be called so: box: Field required"),
        (action("crop", box=[0, 0, 1, 1], path="/etc/passwd"), 1, "crop cannot be called so: path: Extra inputs"),
        (action("crop", box=[0.5, 0.5, 0.4, 0.6]), 1, "the box [0.5, 0.5, 0.4, 0.6] holds nothing of the picture"),
        (action("crop", box=[0, 0, 1, 1]), 0, "the chat has no picture that a tool could look at; add one"),
        (action("crop", box=[0, 0, 1, 1], image=2), 1, "image 2 is none of the chat's 1; count from 0"),
        (action("crop", box=[0, 0, 1, 1], image=True), 1, "image True is none of the chat's 1"),
        (action("shape_detector", caption=""), 1, "shape_detector cannot be called so: caption: String should have"),
    ],
)
def test_a_call_that_cannot_be_is_a_result_in_one_line(
    tools: Toolbox, picture: Image.Image, asked: dict[str, Any], pictures: int, told: str
) -> None:
    result = tools.run(asked, [picture] * pictures)
    assert result.failed and list(result.output) == ["error"]
    assert result.output["error"].startswith(told) and "\n" not in result.output["error"]


# ---- what holds them -------------------------------------------------------------------------------------------------


def run(tools: Toolbox, do: str, path: str = "") -> dict[str, Any]:
    return tools.run(action("naughty", do=do, path=path), [Image.new("RGB", (40, 30))]).output


def living(group: int) -> list[int]:
    """Processes of a group that run; those that nobody has buried yet do not count."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, of = path.read_text().rpartition(")")[2].split()[:3]
            found += [int(path.parent.name)] if int(of) == group and state != "Z" else []
    return found


def test_a_slow_tool_is_stopped_with_what_it_started(tools: Toolbox) -> None:
    before = run(tools, "nothing")["pid"]
    began = time.monotonic()
    assert run(tools, "sleep") == {"error": "naughty took more than 3 s and was stopped; ask for less"}
    assert 3 <= time.monotonic() - began < 6
    until = time.monotonic() + 5
    while living(before) and time.monotonic() < until:
        time.sleep(0.05)
    assert living(before) == []
    assert run(tools, "nothing")["pid"] != before


def test_a_slow_tool_is_left_at_once_by_who_cancels(tools: Toolbox) -> None:
    cancel = threading.Event()
    threading.Timer(0.3, cancel.set).start()
    began = time.monotonic()
    result = tools.run(action("naughty", do="sleep"), [Image.new("RGB", (40, 30))], cancel=cancel)
    assert result.failed and time.monotonic() - began < 1.5


@pytest.mark.parametrize(
    ("do", "told"),
    [
        ("memory", "naughty needs more memory than it is allowed; send a smaller picture"),
        ("crash", "naughty ended without an answer, perhaps for lack of memory; ask for less"),
        ("raise", "naughty failed (KeyError); call it otherwise, or leave it"),
        ("long", "naughty gave 100,012 characters, more than the 8,000 that a model is told"),
        ("poster", "naughty made a picture of 10000 x 10000 pixels, more than is allowed"),
    ],
)
def test_a_tool_that_fails_is_a_result_and_the_next_call_is_answered(tools: Toolbox, do: str, told: str) -> None:
    assert run(tools, do)["error"].startswith(told)
    assert run(tools, "print")["size"] == [40, 30]


def test_what_a_tool_raised_stands_in_the_log(tools: Toolbox, caplog: pytest.LogCaptureFixture) -> None:
    run(tools, "raise")
    assert "secret /home/someone" in caplog.text and "Traceback" in caplog.text


def test_tools_write_no_file_and_reach_no_network(tools: Toolbox, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("kept")
    for do in ("write", "remove"):
        assert run(tools, do, str(kept))["error"].startswith("naughty failed (PermissionError)")
    assert run(tools, "write", str(tmp_path / "new"))["error"].startswith("naughty failed (PermissionError)")
    run(tools, "child writes", str(tmp_path / "child"))
    assert run(tools, "connect", "80")["error"].startswith("naughty failed (PermissionError)")
    assert kept.read_text() == "kept"
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "child").exists() or (tmp_path / "child").read_text() == ""


def test_a_picture_of_noise_is_searched_within_the_limits(tools: Toolbox) -> None:
    noise = Image.effect_noise((500, 500), 300).point(lambda value: 24 if value > 128 else 255)
    assert tools.run(action("shape_detector", caption="object"), [noise]).output.keys() >= {"boxes"}


def test_a_picture_above_the_limit_is_not_sent(picture: Image.Image) -> None:
    with Toolbox(limits=ToolLimits(pixels=100_000)) as tools:
        result = tools.run(action("crop", box=[0, 0, 1, 1]), [picture])
    assert result.output["error"].startswith("the picture has 336 x 336 pixels and tools look at 100,000 at most")


def test_a_file_without_tools_is_missing_with_its_reason_and_the_others_are_there(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    with Toolbox([str(tmp_path / "empty.py")]) as tools:
        assert "crop" in tools
        (reason,) = tools.missing
        assert "has no TOOLS" in reason


def test_two_tools_of_one_name_are_refused(tmp_path: Path) -> None:
    own = tmp_path / "again.py"
    own.write_text("from mminstruct.evidence.tool import Cropper\nTOOLS = [Cropper()]\n")
    with pytest.raises(RunError, match="two tools are called crop; rename one"):
        Toolbox([str(own)])


# ---- the loop --------------------------------------------------------------------------------------------------------


def test_an_action_is_run_and_its_output_is_the_next_turn(tools: Toolbox, picture: Image.Image) -> None:
    engine = ScriptedEngine(answer(action("shape_detector", caption="black circle")), answer(value="On the right."))
    chat = ToolChat(ChatSession(engine), tools)
    seen = [turn.answer or "" for turn in chat.ask("Where is the black circle?", [picture])]
    question, fed = chat.chat.turns
    assert len(set(seen)) > 6, "the answers did not stream"
    first = parts(question)
    assert first is not None and first.actions == [action("shape_detector", caption="black circle")]
    assert fed.text == (
        'shape_detector output: {"boxes": [[0.69, 0.26, 0.89, 0.46]], "logits": [0.99], "phrases": ["black circle"]}'
        "\n\nAnswer my first question: Where is the black circle?"
    )
    assert isinstance(fed.attachment, Feedback) and not fed.attachment.results[0].failed
    last = parts(fed)
    assert last is not None and last.value == "On the right." and last.actions == []
    asked, media = engine.asked[1]
    assert [one.role for one in asked.messages] == ["user", "assistant", "user"] and media == [picture]
    assert asked.messages[1].text == (question.answer or "").strip()
    assert chat.stopped == ""


def test_a_crop_is_a_new_picture_that_later_calls_can_name(tools: Toolbox, picture: Image.Image) -> None:
    engine = ScriptedEngine(
        answer(action("crop", box=[0.6, 0.2, 1, 0.5])),
        answer(action("shape_detector", caption="object", image=1)),
        answer(value="A circle."),
    )
    chat = ToolChat(ChatSession(engine), tools)
    list(chat.ask("What is on the right?", [picture]))
    _, media = engine.asked[2]
    assert [medium.size for medium in media] == [(336, 336), (135, 101)]
    (result,) = chat.chat.turns[2].attachment.results
    assert result.output["phrases"] == ["black circle"] and result.picture is media[1]


def test_a_failed_call_is_told_to_the_model_which_goes_on(tools: Toolbox, picture: Image.Image) -> None:
    engine = ScriptedEngine(answer(action("telescope")), answer(value="I cannot."))
    chat = ToolChat(ChatSession(engine), tools)
    list(chat.ask("What is far away?", [picture]))
    assert chat.chat.turns[1].text.startswith('telescope output: {"error": "no tool is called \'telescope\'')
    assert chat.chat.turns[1].answer == answer(value="I cannot.")


@pytest.mark.parametrize("told", ["A plain answer.", '"thoughts🤔" x\n"actions🚀" [not JSON\n"value👉" y', answer()])
def test_an_answer_without_actions_ends_the_round(tools: Toolbox, picture: Image.Image, told: str) -> None:
    chat = ToolChat(ChatSession(ScriptedEngine(told)), tools)
    list(chat.ask("What is it?", [picture]))
    assert len(chat.chat.turns) == 1


def test_calls_without_end_stop_after_the_rounds(tools: Toolbox, picture: Image.Image) -> None:
    engine = ScriptedEngine(answer(action("shape_detector", caption="object")))
    chat = ToolChat(ChatSession(engine), tools, rounds=2)
    list(chat.ask("And?", [picture]))
    assert len(engine.asked) == 3
    assert chat.stopped == "tools were called 2 times for this question, as often as they may be"


def test_more_actions_than_are_run_are_answered_with_a_line(tools: Toolbox, picture: Image.Image) -> None:
    many = [action("crop", box=[0, 0, 1, 1])] * (ACTIONS + 3)
    chat = ToolChat(ChatSession(ScriptedEngine(answer(*many), answer())), tools)
    list(chat.ask("And?", [picture]))
    results = chat.chat.turns[1].attachment.results
    assert len(results) == ACTIONS + 1 and results[-1].output == {
        "error": "only 4 actions of an answer are run; call the others in the next one"
    }


def test_a_cancel_ends_answer_tool_and_rounds(tools: Toolbox, picture: Image.Image) -> None:
    cancel = threading.Event()
    slow = ScriptedEngine(answer(action("naughty", do="sleep")))
    chat = ToolChat(ChatSession(slow), tools)
    threading.Timer(0.5, cancel.set).start()
    began = time.monotonic()
    list(chat.ask("And?", [picture], cancel=cancel))
    assert time.monotonic() - began < 2 and len(slow.asked) == 1

    cancel.clear()
    words = ScriptedEngine(answer(action("crop", box=[0, 0, 1, 1]), value="word " * 200), pause=0.01)
    chat = ToolChat(ChatSession(words), tools)
    for turn in chat.ask("And?", [picture], cancel=cancel):
        if len(turn.answer or "") > 50:
            cancel.set()
    assert len(words.asked) == 1 and words.steps < 150


def test_a_person_runs_a_tool_and_feeds_what_it_gave(tools: Toolbox, picture: Image.Image) -> None:
    engine = ScriptedEngine("I see shapes.", "Two of them.")
    chat = ToolChat(ChatSession(engine), tools)
    with pytest.raises(DataError, match="no question that the tool's output could answer; ask one first"):
        chat.feed([chat.run("shape_detector", {"caption": "object"})])
    list(chat.ask("How many?", [picture]))
    result = chat.run("shape_detector", {"caption": "object"})
    assert len(chat.chat.turns) == 1, "running a tool asks nothing"
    list(chat.feed([result]))
    fed = chat.chat.turns[1]
    assert fed.text.endswith("Answer my first question: How many?") and fed.attachment.by_hand
    assert fed.answer == "Two of them."


def test_undo_and_retry_take_the_question_with_its_rounds(tools: Toolbox, picture: Image.Image) -> None:
    engine = ScriptedEngine(answer(action("crop", box=[0, 0, 1, 1])), answer(value="Done."))
    chat = ToolChat(ChatSession(engine), tools)
    list(chat.ask("First?", [picture], attachment="shown"))
    list(chat.ask("Second?"))
    assert [turn.text[:6] for turn in chat.chat.turns] == ["First?", "crop o", "Second", "crop o"]
    list(chat.retry())
    assert [turn.text[:6] for turn in chat.chat.turns] == ["First?", "crop o", "Second", "crop o"]
    undone = chat.undo()
    assert undone is not None and undone.text == "Second?" and len(chat.chat.turns) == 2
    first = chat.undo()
    assert first is not None and first.attachment == "shown" and chat.chat.turns == []
    assert chat.undo() is None
    with pytest.raises(DataError, match="no question to answer again"):
        chat.retry()


def test_a_video_is_no_picture_for_tools(tools: Toolbox, picture: Image.Image) -> None:
    chat = ToolChat(ChatSession(ScriptedEngine("A film.")), tools)
    list(chat.ask("What?", [Video((picture,), (0.0,))]))
    assert chat.run("crop", {"box": [0, 0, 1, 1]}).output["error"].startswith("the chat has no picture")


def test_a_failed_answer_is_raised_and_no_tool_runs(tools: Toolbox, picture: Image.Image) -> None:
    chat = ToolChat(ChatSession(ScriptedEngine(RuntimeError("broken"))), tools)
    with pytest.raises(RuntimeError, match="broken"):
        list(chat.ask("What?", [picture]))
    assert len(chat.chat.turns) == 1
