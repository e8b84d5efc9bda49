"""LLaVA-Plus' builder: tools that look at pixels, answers that follow from their output, and the published form."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mminstruct import formats
from mminstruct.building import load_builder, run
from mminstruct.conversation import Conversation, ImagePart
from mminstruct.data_builders import llava_plus
from mminstruct.data_builders.llava_plus import ANSWER, ARGUMENTS, QUESTION, Asked
from mminstruct.data_builders.worlds.scenes import COLORS, SHAPES, scene
from mminstruct.data_builders.worlds.slides import slide
from mminstruct.errors import ConfigError, DataError, ReplyError
from mminstruct.evidence.shape_tools import KnownText, Names, ShapeDetector, ShapeSegmenter, connected_parts
from mminstruct.evidence.tool import Region, TextReader, Tool, call, rounded
from mminstruct.formats.llava_plus import ToolTurn, parse
from tests.building.chat_server import serving
from tests.command import call as command

COUNT = 60
NAME = re.compile(rf"(?:{'|'.join(COLORS)}) (?:{'|'.join(SHAPES)})")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("llava-plus") / "set"
    run(load_builder("llava-plus", [f"pictures={COUNT}", "questions=3"]), out)
    return out


@pytest.fixture(scope="module")
def found(built: Path) -> list[Conversation]:
    conversations = list(formats.read(built))
    assert len(conversations) == 3 * COUNT
    return conversations


def parts(conversation: Conversation) -> tuple[str, ToolTurn, dict[str, Any], ToolTurn]:
    """The question, the call, the tool's output and the answer."""
    asked, called, told, answered = conversation.messages
    calling, concluding = parse(called.text), parse(answered.text)
    assert calling is not None and concluding is not None
    head, _, again = told.text.partition("\n\nAnswer my first question: ")
    tool, _, output = head.partition(" output: ")
    assert tool == calling.actions[0]["API_name"] and again == asked.text.strip()
    return again, calling, json.loads(output), concluding


def pixels_of(built: Path, conversation: Conversation) -> dict[str, np.ndarray]:
    """Colour to (row, column) of its pixels; a scene has each colour and shape together once, but not each colour."""
    with Image.open(built / conversation.media[0].path) as picture:
        values, palette = np.asarray(picture), picture.getpalette()  # one byte a pixel
    assert palette is not None and values.ndim == 2
    places = {tuple(palette[3 * index : 3 * index + 3]): np.argwhere(values == index) for index in np.unique(values)}
    return {name: places[color] for name, color in COLORS.items() if color in places}


def test_every_turn_is_of_the_published_form(found: list[Conversation]) -> None:
    thoughts = Counter()
    for one in found:
        assert [message.role for message in one.messages] == ["user", "assistant", "user", "assistant"]
        assert sum(isinstance(part, ImagePart) for message in one.messages for part in message.content) == 1
        _, calling, _, concluding = parts(one)
        (action,) = calling.actions
        assert action.keys() == {"API_name", "API_params"} and action["API_name"] in calling.value
        assert concluding.actions == [] and action["API_name"] in concluding.thoughts
        assert not llava_plus.names_tool(concluding.value, action["API_name"])
        thoughts[calling.thoughts.replace(action["API_name"], "{tool}")] += 1
    assert set(thoughts) == set(llava_plus.prompt_file().thoughts)


def test_outputs_of_the_shape_tools_are_what_the_pixels_show(built: Path, found: list[Conversation]) -> None:
    """Of colours that one shape alone has: the box around all pixels of the colour, and their share of the picture."""
    checked = 0
    for one in found:
        if "text_reader" in (one.task or ""):
            continue
        _, _, output, _ = parts(one)
        drawn = pixels_of(built, one)
        assert one.extra is not None
        colors = Counter(thing["category"].split()[0] for thing in one.extra["facts"]["instances"])
        for place, phrase in enumerate(output["phrases"]):
            color, shape = phrase.split()
            if colors[color] > 1:
                continue
            rows, columns = drawn[color][:, 0], drawn[color][:, 1]
            box = [columns.min() / 336, rows.min() / 336, (columns.max() + 1) / 336, (rows.max() + 1) / 336]
            assert output["boxes"][place] == [round(float(edge), 2) for edge in box]
            filled = len(rows) / ((columns.max() + 1 - columns.min()) * (rows.max() + 1 - rows.min()))
            kind = "square" if filled > 0.95 else "circle" if filled > 0.65 else "half"
            assert kind == ("half" if shape in ("triangle", "diamond") else shape)
            if "areas" in output:
                assert output["areas"][place] == round(len(rows) / 336**2, 2)
            checked += 1
    assert checked > 40


def third(low: float, high: float, names: tuple[str, str]) -> str:
    return names[0] if low + high < 2 / 3 else names[1] if low + high > 4 / 3 else ""


def test_every_answer_about_a_scene_is_true(found: list[Conversation]) -> None:
    """By the scene's geometry, not by what the tool said of it."""
    asked: Counter[str] = Counter()
    for one in found:
        if "text_reader" in (one.task or ""):
            continue
        assert one.extra is not None
        seed, number = map(int, one.extra["image_id"].split("/")[1:])
        things = {thing.name: thing for thing in scene(seed, number).things}
        question, _, _, concluding = parts(one)
        answer, names = concluding.value, NAME.findall(question)
        if re.match(r"Where|Can you locate|Please point", question):
            left, top, right, bottom = (edge / 336 for edge in things[names[0]].box)
            place = " ".join(
                filter(None, [third(top, bottom, ("top", "bottom")), third(left, right, ("left", "right"))])
            )
            assert (f"at the {place}" if place else "in the middle") in answer
            box = [float(edge) for edge in re.findall(r"\d\.\d+", answer)]
            assert box == pytest.approx([left, top, right, bottom], abs=0.011)
            asked["where"] += 1
        elif match := re.match(r"(?:How many|Count the|What is the number of) (\w+)s", question):
            named = [name for name in things if name.split()[1] == match[1]]
            assert sorted(NAME.findall(answer)) == sorted(named)
            assert f"no {match[1]}s" in answer if not named else re.search(rf"is one|are {len(named)}", answer)
            asked["count"] += 1
        elif re.match(r"Is there any|Can you see any|Does the image show", question):
            assert answer.startswith("Yes" if names[0] in things else "No")
            asked[f"exists: {names[0] in things}"] += 1
        elif re.match(r"Which is further|Coming from", question):
            first, last = sorted(names, key=lambda name: things[name].centre[0])
            assert answer.startswith(f"The {first}") and f"The {last}" not in answer
            asked["order"] += 1
        elif re.match(r"Which objects|Find every", question):
            assert NAME.findall(answer) == [thing.name for thing in sorted(things.values(), key=lambda t: t.centre)]
            asked["all"] += 1
        elif re.match(r"How much|Which share", question):
            area = area_of(things[names[0]].shape, things[names[0]].side + 1) / 336**2
            percent = re.search(r"about (\d+) %", answer)
            assert abs((int(percent[1]) if percent else 0) - 100 * area) < 0.7
            asked["share"] += 1
        else:
            assert re.match(r"Which covers|Does the", question)
            areas = {name: area_of(things[name].shape, things[name].side + 1) for name in names}
            more = max(areas, key=lambda name: areas[name])
            if answer.startswith("They cover"):
                assert abs(areas[names[0]] - areas[names[1]]) < 0.0115 * 336**2
            else:
                assert answer.startswith(f"The {more}")
            asked["more"] += 1
    assert len(asked) == 8 and min(asked.values()) >= 2, asked


def area_of(shape: str, side: float) -> float:
    return {"square": 1.0, "circle": np.pi / 4, "triangle": 0.5, "diamond": 0.5}[shape] * side**2


def test_every_answer_about_a_slide_is_true(found: list[Conversation]) -> None:
    asked: Counter[str] = Counter()
    for one in found:
        if "text_reader" not in (one.task or ""):
            continue
        assert one.extra is not None
        seed, number = map(int, one.extra["image_id"].split("/")[1:])
        page = slide(seed, number)
        bars = {bar.label: bar.value for bar in page.bars}
        question, _, _, concluding = parts(one)
        answer = concluding.value
        if re.search("title|top of the slide|called", question):
            assert f'"{page.title}"' in answer
            asked["title"] += 1
        elif re.match("List|Which points", question):
            told = [f"{place}. {text}" for place, text in enumerate(page.texts("bullet"), start=1)]
            assert answer.splitlines() == told
            asked["points"] += 1
        elif re.match("How many bullet|Count", question):
            assert re.findall(r"\d+", answer) == [str(len(page.texts("bullet")))]
            asked["number"] += 1
        elif re.match("Which page|What number", question):
            assert re.findall(r"\d+", answer) == [str(page.page)]
            asked["page"] += 1
        elif re.match("Read|Please copy", question):
            assert answer.splitlines() == [words.text for words in page.words]
            asked["all"] += 1
        elif re.search("tallest|greatest", question):
            label = max(bars, key=lambda name: bars[name])
            assert label in answer and str(bars[label]) in answer
            asked["tallest"] += 1
        elif match := re.search(r"(?:show for|bar of) (.+?)(?: in the chart)?\?", question):
            assert str(bars[match[1]]) in answer.replace(match[1], "")
            asked["value"] += 1
        else:
            assert "add up" in question or "sum" in question
            assert (
                answer.endswith(f"add up to {sum(bars.values())}.") and len(re.findall(r"\d+", answer)) == len(bars) + 2
            )
            asked["sum"] += 1
    assert len(asked) == 8 and min(asked.values()) >= 2, asked


def test_the_published_json(built: Path, found: list[Conversation], tmp_path: Path) -> None:
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    formats.write(found, first, "llava-plus")
    again = list(formats.read(first))
    formats.write(again, second, "llava-plus")
    assert again == found and first.read_bytes() == second.read_bytes()
    item = json.loads(first.read_text())[0]
    assert {"unique_id", "image_id", "file_name", "image", "data_source", "conversations"} <= item.keys()
    human, gpt, tool, answer = item["conversations"]
    assert human["value"].count("<image>") == 1 and "<image>" not in tool["value"]
    assert gpt.keys() == answer.keys() == {"from", "thoughts", "actions", "value"} and answer["actions"] == []
    assert gpt["actions"][0].keys() == {"API_name", "API_params"}


def test_shapes_of_any_size_are_found_and_nothing_else() -> None:
    picture = Image.new("RGB", (200, 100), (250, 250, 250))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((10, 10, 49, 49), fill=COLORS["red"])
    pen.rectangle((10, 60, 13, 63), fill=COLORS["red"])  # a speck
    pen.ellipse((60, 10, 99, 49), fill=COLORS["red"])
    pen.polygon([(130, 10), (149, 49), (111, 49)], fill=COLORS["blue"])
    pen.polygon([(170, 10), (190, 30), (170, 50), (150, 30)], fill=(60, 200, 200))  # a colour without a name
    pen.line((100, 60, 199, 90), fill=COLORS["black"], width=3)  # no shape
    output = ShapeDetector().run(picture, Names(caption="object"))
    assert output["phrases"] == ["red square", "red circle", "blue triangle"] and min(output["logits"]) > 0.9
    assert output["boxes"][0] == [0.05, 0.1, 0.25, 0.5]
    for caption, phrases in [
        ("circle", ["red circle"]),
        ("red objects", ["red square", "red circle"]),
        ("Blue . red squares", ["red square", "blue triangle"]),
        ("dog . blue circle", []),
        (".", []),
    ]:
        assert ShapeDetector().run(picture, Names(caption=caption))["phrases"] == phrases
    assert ShapeSegmenter().run(picture, Names(caption="square"))["areas"] == [40 * 40 / 20_000]


def test_connected_parts_are_those_of_a_flood() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random((12, 14)) < 0.45
        seen, sizes = set(), []
        for start in map(tuple, np.argwhere(mask).tolist()):
            size, stack = 0, [start]
            while stack:
                row, column = stack.pop()
                if (row, column) in seen or not (0 <= row < 12 and 0 <= column < 14) or not mask[row, column]:
                    continue
                seen.add((row, column))
                size += 1
                stack += [(row + y, column + x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
            sizes += [size] if size else []
        parts = [part.mask((0, 0, 13, 11)) for part in connected_parts(mask)]
        assert sorted(int(part.sum()) for part in parts) == sorted(sizes) and (sum(parts) == mask).all()


def test_tools_see_a_picture_of_800_pixels_and_numbers_have_two_digits() -> None:
    class Size(Tool[Region]):
        name, version, does, arguments = "size", "1", "measures", Region

        def run(self, picture: Image.Image, arguments: Region) -> dict[str, Any]:
            return {
                "size": list(picture.size),
                "mode": picture.mode,
                "deep": [{"third": (1 / 3, 1, "0.333", True, None)}],
            }

    tool = Size()
    deep = [{"third": [0.33, 1, "0.333", True, None]}]
    assert call(tool, Image.new("P", (1600, 400)), Region()) == {"size": [800, 200], "mode": "RGB", "deep": deep}
    assert call(tool, Image.new("RGB", (90, 801)), Region())["size"] == [90, 800]
    assert call(tool, Image.new("RGB", (800, 20)), Region())["size"] == [800, 20]
    assert rounded(0.125) == 0.12 and rounded(2) == 2


def test_the_reader_reads_a_region() -> None:
    reader = TextReader(KnownText([("a", (0.1, 0.1, 0.3, 0.2)), ("b", (0.6, 0.6, 0.9, 0.7))]))
    picture = Image.new("RGB", (1000, 500))
    assert call(reader, picture, Region())["texts"] == ["a", "b"]
    output = call(reader, picture, Region(box=(0.5, 0.5, 1, 1)))
    assert output == {"texts": ["b"], "boxes": [[0.6, 0.6, 0.9, 0.7]], "scores": [1.0]}


def test_the_examples_are_in_the_form_that_they_teach() -> None:
    tools = [ShapeDetector(), ShapeSegmenter(), TextReader(KnownText([]))]
    assert set(llava_plus.prompt_file().examples) == {tool.name for tool in tools}
    for tool in tools:
        facts = Asked(
            tool, ["A cat."], [("cat", (0.1, 0.2, 0.3, 0.4))], ("Is it asleep?",), "Where is it?", {"a": 1}, {"b": 2}
        )
        for prompt in (QUESTION, ARGUMENTS, ANSWER):
            messages = prompt.messages(facts)
            assert [one.role for one in messages] == ["system", *["user", "assistant"] * 2, "user"]
            assert tool.does in messages[0].text or prompt is ANSWER
            for example in messages[2:-1:2]:
                assert prompt.parse(example.text, facts)
        asked = QUESTION.messages(facts)[-1].text
        assert "A cat." in asked and "cat: [0.10, 0.20, 0.30, 0.40]" in asked and "Is it asleep?" in asked
        assert ARGUMENTS.messages(facts)[-1].text == "Where is it?"
        assert all(
            part in ANSWER.messages(facts)[-1].text for part in ("A cat.", '{"a": 1}', '{"b": 2}', "Where is it?")
        )


@pytest.mark.parametrize(
    ("prompt", "reply", "problem"),
    [
        (QUESTION, " ", "the reply is empty"),
        (QUESTION, "Where?", "shorter than three words"),
        (QUESTION, "Where is it?\nAnd what?", "more than one line"),
        (QUESTION, "What does the Shape Detector find?", "the question names the tool"),
        (QUESTION, "is it ASLEEP now?", "the question was asked already"),
        (QUESTION, "What is in <image> here?", "the reply holds <image>, which has a meaning here"),
        (ARGUMENTS, "cat . dog", "the reply is not JSON"),
        (ARGUMENTS, '{"text": "cat"}', "the reply does not fit"),
        (ARGUMENTS, '{"caption": ""}', "the reply does not fit: caption"),
        (ANSWER, '"value👉" At the left.', "which has a meaning here"),
    ],
)
def test_replies_of_another_form_are_refused(prompt: llava_plus.StepPrompt, reply: str, problem: str) -> None:
    with pytest.raises(ReplyError, match=problem):
        prompt.parse(reply, Asked(ShapeDetector(), ["A cat."], [], ("Is it asleep now?",)))


OWN = """
from PIL import Image
from mminstruct.config import Config
from mminstruct.evidence.tool import Tool

class Brightness(Tool):
    name, version, does = "light_meter", "7", "measures how bright the picture is"
    class arguments(Config):
        unit: str = "share"
    def run(self, picture, arguments):
        return {"mean": sum(picture.convert("L").getdata()) / 255 / picture.width / picture.height}

TOOLS = [Brightness()]
"""


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    for name, grey in [("a.png", 51), ("b c.png", 102)]:
        Image.new("L", (20, 10), grey).save(tmp_path / name)
    rows = [{"id": name[0], "image": name, "captions": [f"Picture {name}."]} for name in ("a.png", "b c.png")]
    (tmp_path / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tools.py").write_text(OWN)
    return [f"facts={tmp_path / 'facts.jsonl'}", f"own_tools={tmp_path / 'tools.py'}", "questions=1"]


def test_tools_and_pictures_of_ones_own_with_a_model(
    own: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")

    def writes(body: dict[str, Any]) -> str:
        system, asked = body["messages"][0]["content"], body["messages"][-1]["content"]
        if system.startswith("You call tools"):
            return '```json\n{"unit": "share"}\n```'
        if "Write the question" in system:
            return f"How bright is {re.findall('Picture (.)', asked)[0]}?"
        mean = json.loads(re.findall(r"output:\n(.+)", asked)[0])["mean"]
        return "The Light Meter says so." if "Picture b" in asked else f"At {mean} of full light."

    out = tmp_path / "set"
    with serving(writes) as server:
        code, printed, error = command(
            *(
                "build",
                "llava-plus",
                *own,
                "--out",
                out,
                "--backend",
                "openai",
                "--model",
                "m",
                "--base-url",
                server.url,
            )
        )
    assert (code, printed) == (0, f"{out}: 1 conversation, 1 image\n"), error
    (found,) = formats.read(out)
    question, calling, output, concluding = parts(found)
    assert (question, output, concluding.value) == ("How bright is a?", {"mean": 0.2}, "At 0.2 of full light.")
    assert calling.actions == [{"API_name": "light_meter", "API_params": {"unit": "share"}}]
    assert found.provenance is not None and len(found.provenance.call_ids) == 3
    assert json.loads((out / "manifest.json").read_text())["builder"]["dropped"] == {"the answer names the tool": 1}


def test_options_that_do_not_go_together(own: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the templates know no questions for the tool 'light_meter'"):
        run(load_builder("llava-plus", own), tmp_path / "a")
    with pytest.raises(ConfigError, match="pictures of one's own need tools of one's own"):
        run(load_builder("llava-plus", own[:1]), tmp_path / "b")
    (tmp_path / "tools.py").write_text("TOOLS = [3]\n")
    with pytest.raises(ConfigError, match=r"tools\.py has no TOOLS; set TOOLS to a list"):
        run(load_builder("llava-plus", own), tmp_path / "c")
    (tmp_path / "facts.jsonl").write_text('{"id": "3", "image": "a.png", "captions": []}\n')
    with pytest.raises(DataError, match=r"facts\.jsonl:1: captions: .*mend or drop it"):
        run(load_builder("llava-plus", own), tmp_path / "d")


def test_one_tool_alone_and_other_questions_each_time(tmp_path: Path) -> None:
    run(load_builder("llava-plus", ["tools=[shape_segmenter]", "pictures=8", "questions=3"]), tmp_path / "set")
    found = list(formats.read(tmp_path / "set"))
    assert len(found) == 24 and {one.task for one in found} == {"llava-plus+shape_segmenter"}
    for start in range(0, 24, 3):
        assert len({parts(one)[0] for one in found[start : start + 3]}) == 3
    facts = Asked(ShapeDetector(), [], scene(0, 0).boxes())
    assert len({QUESTION.template(facts, random.Random(number)) for number in range(100)}) > 15
