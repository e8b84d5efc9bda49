"""LLaVA's builder: true answers on scenes, its prompt and reply forms, and pictures of one's own."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mminstruct import formats
from mminstruct.building import BuildConfig, load_builder, run
from mminstruct.building.clients import OpenAICompatibleClient
from mminstruct.conversation import Conversation, ImagePart
from mminstruct.data_builders import llava
from mminstruct.data_builders.worlds.scenes import COLORS, GROUNDS, NUMBERS, Scene, Thing, scene
from mminstruct.errors import DataError, MediaError, ReplyError
from tests.building.chat_server import serving
from tests.command import call

COUNT = 300


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("llava") / "set"
    run(load_builder("llava", [f"scenes={COUNT}"]), out)
    return out


def pairs(conversation: Conversation) -> list[tuple[str, str]]:
    texts = [message.text.strip() for message in conversation.messages]
    return list(zip(texts[::2], texts[1::2], strict=True))


def of_kind(built: Path, kind: str) -> list[tuple[Scene, Conversation]]:
    found = [one for one in formats.read(built) if one.task == f"llava+{kind}"]
    assert len(found) == COUNT
    return [(scene(0, number), one) for number, one in enumerate(found)]


def named(drawn: Scene) -> dict[str, Thing]:
    return {f"{thing.color} {thing.shape}": thing for thing in drawn.things}


def third(low: int, high: int, names: tuple[str, str]) -> str:
    """Of the middle between two edges, in whole pixels doubled; 336 are the picture's."""
    return names[0] if 3 * (low + high) < 2 * 336 else names[1] if 3 * (low + high) > 4 * 336 else ""


def test_pictures_show_what_their_facts_say() -> None:
    for number in range(COUNT):
        drawn = scene(0, number)
        picture = drawn.draw().convert("RGB")
        assert 2 <= len(drawn.things) <= 6 and len(named(drawn)) == len(drawn.things)
        pixels = picture.load()
        assert pixels is not None
        for thing in drawn.things:
            left, top, right, bottom = thing.box
            assert pixels[(left + right) // 2, (top + bottom) // 2] == COLORS[thing.color]
            outside = [(left - 1, top), (right + 1, top), (left, top - 1), (left, bottom + 1)]
            assert all(pixels[place] == GROUNDS[drawn.ground] for place in outside)
            square = sum(pixels[left, y] == COLORS[thing.color] for y in range(top, bottom + 1)) > thing.side
            assert square == (thing.shape == "square")
        told = " ".join(drawn.captions())
        assert all(name in told for name in named(drawn)) and drawn.ground in told
    assert scene(0, 5) == scene(0, 5) != scene(1, 5)


def test_captions_are_true() -> None:
    for number in range(COUNT):
        drawn = scene(0, number)
        things = named(drawn)
        _, counted, ends, largest, highest = drawn.captions()
        for count, shape in re.findall(r"(\w+) (circle|square|triangle|diamond)", counted):
            assert count == NUMBERS[sum(thing.shape == shape for thing in drawn.things)]
        first, last = re.findall(r"[Tt]he (\w+ \w+) at the far|The (\w+ \w+) is at", ends)
        middles = {name: thing.box[0] + thing.box[2] for name, thing in things.items()}
        assert middles[first[1]] == min(middles.values()) and middles[last[0]] == max(middles.values())
        sides = {name: thing.box[2] - thing.box[0] for name, thing in things.items()}
        assert sides[" ".join(largest.rstrip(".").split()[-2:])] == max(sides.values())
        heights = {name: thing.box[1] + thing.box[3] for name, thing in things.items()}
        assert heights[" ".join(highest.split()[1:3])] == min(heights.values())


def test_every_answer_of_a_conversation_is_true(built: Path) -> None:
    """Computed from the shapes' pixels, not from the boxes that the builder was given."""
    asked = 0
    for drawn, conversation in of_kind(built, "conversation"):
        things = named(drawn)
        for question, answer in pairs(conversation):
            asked += 1
            if question == "How many objects are there?":
                assert answer == f"There are {NUMBERS[len(things)]}."
            elif match := re.fullmatch(r"Where is the (.+)\?", question):
                left, top, right, bottom = things[match[1]].box
                where = [third(top, bottom, ("top", "bottom")), third(left, right, ("left", "right"))]
                place = " ".join(filter(None, where))
                assert answer == f"The {match[1]} is {f'at the {place}' if place else 'in the middle'}."
            else:
                match = re.fullmatch(
                    r"Is the (.+?) (to the left or to the right of|above or below) the (.+)\?", question
                )
                assert match is not None
                one, other = things[match[1]].box, things[match[3]].box
                axis = int(match[2].startswith("above"))
                before = one[axis] + one[axis + 2] < other[axis] + other[axis + 2]
                words = [("to the right of", "to the left of"), ("below", "above")][axis]
                assert answer == f"It is {words[before]} the {match[3]}."
    assert asked == 4 * COUNT


def test_every_reasoning_is_true(built: Path) -> None:
    for drawn, conversation in of_kind(built, "reasoning"):
        ((question, answer),) = pairs(conversation)
        side = re.findall(r"nearest to the (\w+) edge", question)[0]
        axis, sign = {"left": (0, 1), "right": (0, -1), "top": (1, 1), "bottom": (1, -1)}[side]
        order = sorted(named(drawn).items(), key=lambda one: sign * (one[1].box[axis] + one[1].box[axis + 2]))
        assert re.findall(r"the (\w+ (?:circle|square|triangle|diamond))", answer)[:2] == [order[0][0], order[1][0]]
        assert answer.endswith(f"the {order[1][0]} would be nearest to the {side} edge.")
        assert all(name in answer for name, _ in order)


def test_details_name_everything(built: Path) -> None:
    questions = set()
    for drawn, conversation in of_kind(built, "detail"):
        ((question, answer),) = pairs(conversation)
        questions.add(question)
        assert all(f"The {name} is " in answer for name in named(drawn)) and drawn.captions()[0] in answer
    assert questions == set(llava.prompt_file().detail.questions)


def test_records_keep_their_facts_and_their_calls(built: Path) -> None:
    found = list(formats.read(built))
    calls = [key for one in found for key in (one.provenance.call_ids if one.provenance else [])]
    assert len(calls) == len(set(calls)) == 3 * COUNT
    first = {isinstance(one.messages[0].content[0], ImagePart) for one in found}
    assert first == {True, False}  # the picture stands before some questions and behind others
    for one in found[:3]:
        assert one.extra == {
            "facts": {
                "captions": scene(0, 0).captions(),
                "instances": [{"category": name, "bbox": list(box)} for name, box in scene(0, 0).boxes()],
            }
        }
        with Image.open(built / one.media[0].path) as picture:
            assert picture.convert("RGB").tobytes() == scene(0, 0).draw().convert("RGB").tobytes()
    llava_json = built.parent / "llava.json"
    formats.write(found, llava_json, "llava")
    assert json.loads(llava_json.read_text())[1]["conversations"][0]["value"].count("<image>") == 1


def test_the_prompt_is_system_examples_and_the_facts() -> None:
    facts = llava.Facts(id="1", image="1.png", captions=["A cat.", "It sleeps."], instances=[])
    for kind, prompt in llava.KINDS.items():
        messages = prompt.messages(facts)
        shots = len(prompt.told.examples)
        assert [one.role for one in messages] == ["system", *["user", "assistant"] * shots, "user"]
        assert "A cat.\nIt sleeps.\n" in messages[-1].text and "(none)" in messages[-1].text
        for example in messages[2:-1:2]:
            assert prompt.parse(example.text, facts), kind  # the examples keep to the form that they are to teach
    assert "dog: [0.120, 0.480, 0.310, 0.790]" in llava.KINDS["conversation"].messages(facts)[1].text


@pytest.mark.parametrize(
    ("kind", "reply", "problem"),
    [
        ("conversation", "There is a cat.", "there is no block of Question:"),
        ("conversation", "Question:\nA?\n===\nAnswer:\nB\n===\nQuestion:\nC?", "a question is without its answer"),
        ("conversation", "Question: A?\n===\nAnswer: B\n===\nQuestion: a?\n===\nAnswer: C", "'a\\?' stands twice"),
        ("conversation", "Question: A?\n===\nAnswer: B\n===\nThe answer is not correct.", "behind an answer's ==="),
        (
            "conversation",
            "Question: A?\n===\nAnswer: B\n======\nSame as before.\nQuestion: C?\n===\nAnswer: D",
            "behind",
        ),
        ("reasoning", "Question: A?\n===\nAnswer: B\n===\nQuestion: C?\n===\nAnswer: D", "there are 2 questions"),
        ("detail", "A cat.", "shorter than eight words"),
    ],
)
def test_replies_of_another_form_are_refused(kind: llava.Kind, reply: str, problem: str) -> None:
    facts = llava.Facts(id="1", image="1.png", captions=["A cat."], instances=[])
    with pytest.raises(ReplyError, match=problem):
        llava.KINDS[kind].parse(reply, facts)


def test_templates_answer_of_facts_that_say_little() -> None:
    """Two things of one name cannot be told apart, so nothing is said of one of them."""
    box = {"category": "dog", "bbox": [0.1, 0.1, 0.2, 0.2]}
    for instances in ([], [box], [box, box]):
        facts = llava.Facts(id="1", image="1.png", captions=["Dogs play at the sea in the sun."], instances=instances)
        for prompt in llava.KINDS.values():
            found = prompt.parse(prompt.template(facts, random.Random(0)), facts)
            assert found and not any("the dog" in answer for _, answer in found if len(instances) == 2)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A file in the form of LLaVA's own `caps_boxes`, with two pictures."""
    rows = []
    for number, name in enumerate(["a.png", "b c.jpg"]):
        Image.new("RGB", (20, 10), (number, 0, 0)).save(tmp_path / name)
        instances = [{"category": "bus", "bbox": [0.0, 0.1, 0.5, 0.9]}]
        rows.append({"id": f"00{number}", "image": name, "captions": [f"Bus {number}."], "instances": instances})
    path = tmp_path / "facts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_model_writes_of_pictures_of_ones_own(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret-7")

    def writes(body: dict[str, Any]) -> str:
        number = re.findall(r"Bus (\d)\.", body["messages"][-1]["content"])[0]
        return f"Question:\nWhich bus?\n===\nAnswer:\nNumber {number}.\n===\n"

    out = tmp_path / "set"
    with serving(writes) as server:
        code, printed, _ = call(
            *("build", "llava", f"facts={photographs}", "kinds=[conversation]", "--out", out, "--workers", 4),
            *("--backend", "openai", "--model", "m7", "--base-url", server.url, "--key-variable", "MY_KEY"),
            *("--temperature", 0.1),
        )
    assert (code, printed) == (0, f"{out}: 2 conversations, 2 images\n")
    assert {request["temperature"] for request in server.requests} == {0.1}
    assert {request["model"] for request in server.requests} == {"m7"}
    assert all(header["authorization"] == "Bearer secret-7" for header in server.headers)
    found = list(formats.read(out))
    assert [pairs(one) for one in found] == [[("Which bus?", "Number 0.")], [("Which bus?", "Number 1.")]]
    assert [one.media[0].path for one in found] == ["images/a.png", "images/b c.jpg"]
    assert not any(b"secret-7" in path.read_bytes() for path in out.rglob("*") if path.is_file())


def test_broken_facts_and_pictures(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "b c.jpg").write_bytes(b"")
    with pytest.raises(MediaError, match=r"b c\.jpg"):
        run(load_builder("llava", [f"facts={photographs}"]), tmp_path / "a")
    settings = BuildConfig(on_error="skip")
    assert run(load_builder("llava", [f"facts={photographs}"]), tmp_path / "b", settings).conversations == 3
    photographs.write_text('{"id": "3", "image": "a.png", "captions": []}\n')
    with pytest.raises(DataError, match=r"facts\.jsonl:1: captions: .*mend or drop it"):
        run(load_builder("llava", [f"facts={photographs}"]), tmp_path / "c")


def test_pictures_go_as_the_bytes_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import base64

    from tests.building.asking_builder import Greys

    monkeypatch.setenv("OPENAI_API_KEY", "any")
    with serving(lambda body: "it is grey") as server:
        client = OpenAICompatibleClient("m", [server.url, server.url])
        run(Greys(Greys.Options(count=1)), tmp_path / "set", client=client)
        client.close()
    (picture, words) = server.requests[0]["messages"][0]["content"]
    assert words == {"type": "text", "text": "what is grey/0?"}
    kind, _, data = picture["image_url"]["url"].partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == (tmp_path / "set/images/grey/0.png").read_bytes()
    assert server.requests[1]["messages"] == [{"role": "user", "content": "what more of grey/0?"}]
