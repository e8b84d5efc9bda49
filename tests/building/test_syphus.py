"""Syphus's builder: true answers by pixels, the grammar of replies, each preset's rules, annotations of one's own."""

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
from mminstruct.building import BuildConfig, load_builder, run
from mminstruct.conversation import Conversation
from mminstruct.data_builders import syphus
from mminstruct.data_builders.worlds.annotated import WORLDS, Facts, Material
from mminstruct.data_builders.worlds.scenes import COLORS, GROUNDS, NUMBERS
from mminstruct.errors import ConfigError, DataError, MediaError, ReplyError
from mminstruct.media import encode_clip
from tests.building.chat_server import serving
from tests.building.clip_pixels import Pixels
from tests.command import call

PRESETS = ("scene", "difference", "general-difference", "video", "first-person", "story")


def build(folder: Path, *options: str, **settings: Any) -> list[Conversation]:
    run(load_builder("syphus", options), folder, BuildConfig(**settings))
    return list(formats.read(folder))


def pairs(conversation: Conversation) -> list[tuple[str, str]]:
    texts = [message.text.strip() for message in conversation.messages]
    return list(zip(texts[::2], texts[1::2], strict=True))


def drawn(folder: Path, conversation: Conversation) -> list[dict[str, tuple[float, float, int]]]:
    """(x, y) of the middle of its box, and pixels, of each colour that each picture shows."""
    found = []
    for medium in conversation.media:
        with Image.open(folder / medium.path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        places = {name: np.nonzero((pixels == color).all(axis=-1)) for name, color in COLORS.items()}
        found.append(
            {n: ((x.min() + x.max()) / 2, (y.min() + y.max()) / 2, len(x)) for n, (y, x) in places.items() if len(x)}
        )
    return found


def test_answers_on_clips_are_true(tmp_path: Path) -> None:
    judged: Counter[str] = Counter()
    for one in build(tmp_path / "set", "preset=video", "items=12", "turns=all"):
        pixels = Pixels(tmp_path / "set" / one.media[0].path, " ".join((one.extra or {})["facts"]["sentences"]))
        for question, answer in pairs(one):
            right = pixels.true(question, answer)
            if right is not None:
                judged[question.split()[0]] += 1
                assert right, (one.id, question, answer)
    assert len(judged) >= 4 and judged.total() >= 12


def test_differences_are_those_of_the_pictures(tmp_path: Path) -> None:
    """By colours that one thing alone has in each picture."""
    judged: Counter[str] = Counter()
    for one in build(tmp_path / "set", "preset=difference", "items=30", "turns=all"):
        before, after = drawn(tmp_path / "set", one)
        alone = [
            {color for color in COLORS if _one_thing(tmp_path / "set" / medium.path, color)} for medium in one.media
        ]
        for sentence in (one.extra or {})["facts"]["sentences"]:
            if match := re.fullmatch(r"The (\w+) (\w+) of the first picture is (\w+) in the second\.", sentence):
                lost, gained = match[1], match[3]
                assert lost in before and gained in after
            elif match := re.match(r"The (\w+) (\w+) is .* in the first picture and (.*) in the second\.", sentence):
                if match[1] in alone[0] & alone[1]:
                    x, y, _ = after[match[1]]
                    assert match[3] == _place(x, y)
                    assert before[match[1]][:2] != after[match[1]][:2]
            elif match := re.match(r"The (\w+) (\w+) .* of the first picture is not in the second\.", sentence):
                assert match[1] in before and before[match[1]] != after.get(match[1])
            else:
                match = re.match(r"The second picture has an? (\w+) (\w+) (.*) that the first has not\.", sentence)
                assert match is not None and match[1] in after
                assert after[match[1]] != before.get(match[1])
                if match[1] in alone[1]:
                    assert match[1] not in before and match[3] == _place(*after[match[1]][:2])
            judged[sentence.split()[1]] += 1
        for question, answer in pairs(one):
            if question.startswith("Is the background"):
                with Image.open(tmp_path / "set" / one.media[0].path) as picture:
                    assert answer == f"Yes, it is {_ground(picture)} in both."
    assert judged.total() >= 30


def test_stories_tell_what_the_pictures_show(tmp_path: Path) -> None:
    checked = 0
    order = ("first", "second", "third", "fourth")
    for one in build(tmp_path / "set", "preset=story", "items=12", "turns=all"):
        pictures = drawn(tmp_path / "set", one)
        assert len(pictures) == 4
        for question, answer in pairs(one):
            if match := re.match(r"What happens between the (\w+) and", question):
                number = order.index(match[1])
                before, after = pictures[number], pictures[number + 1]
                if found := re.fullmatch(r"The (\w+) \w+ turns (\w+)\.", answer):
                    assert before[found[1]] != after.get(found[1]) and found[2] in after
                elif found := re.match(r"An? (\w+) \w+ appears", answer):
                    assert after[found[1]] != before.get(found[1])
                elif found := re.match(r"The (\w+) \w+, which was", answer):
                    assert before[found[1]] != after.get(found[1])
                else:
                    assert re.match(r"The \w+ \w+ moves: ", answer) and set(before) == set(after)
                checked += 1
            elif question.startswith("Are there more"):
                counts = [NUMBERS.index(word) for word in re.findall(r"there are (\w+), at the end (\w+)", answer)[0]]
                tail = answer.rstrip(".").split()[-1]
                assert tail == ("more" if counts[0] < counts[1] else "fewer" if counts[0] > counts[1] else "many")
    assert checked >= 12


def test_what_the_walker_is_told_is_in_view(tmp_path: Path) -> None:
    """The first and the last picture by the clip's own frames."""
    checked = 0
    for one in build(tmp_path / "set", "preset=first-person", "items=10", "turns=all"):
        said = " ".join(part for pair in pairs(one) for part in pair).lower()
        assert not re.search(r"video|camera|wearer|seconds|\d:\d", said) and re.search(r"\bi\b", said)
        assert len(one.messages) >= 12
        names = {name for names in (one.extra or {})["facts"]["objects"] for name in names}
        pixels = Pixels(tmp_path / "set" / one.media[0].path, " ".join(sorted(names)))
        for question, answer in pairs(one):
            frame = {"What do I see when I begin?": 0, "What is in front of me at the end?": len(pixels.frames) - 1}
            if question in frame:
                told = set(re.findall(r"(\w+) (?:circle|square|triangle|diamond)", answer))
                assert told, answer
                for color in told & pixels.single:
                    assert frame[question] in pixels.track(color)
                    checked += 1
    assert checked >= 6


@pytest.mark.parametrize("name", PRESETS)
def test_examples_keep_to_the_rules_and_templates_to_the_grammar(name: str) -> None:
    label, preset = syphus.preset(name)
    prompt = syphus.SyphusPrompt(preset)
    assert label == name and preset.examples
    for shot in preset.examples:
        assert shot.facts.fits(preset.kind) is None
        assert prompt.parse(shot.flat(), Material(shot.facts))
        if name != "first-person":  # whose annotations speak of a wearer, which nothing may that is said
            assert prompt.parse(prompt.template(Material(shot.facts), random.Random(0)), Material(shot.facts))
    messages = prompt.messages(WORLDS[preset.kind](0, 0).material)
    assert [one.role for one in messages] == ["system", *["user", "assistant"] * len(preset.examples), "user"]
    assert re.fullmatch(r"(Question: .*\nAnswer: .*(\n|$))+", messages[2].text)
    for number in range(60):
        material = WORLDS[preset.kind](1, number).material
        found = prompt.parse(prompt.template(material, random.Random(number)), material)
        assert preset.rules.least <= len(found) <= preset.rules.most


def test_the_user_texts_are_those_of_the_paper_s_kinds() -> None:
    facts = Facts(
        id="a", video="v", sentences=["One.", "Two."], timestamps=[(0, 1.26), (1.26, 3)], objects=[["cup"], []]
    )
    video = syphus.Preset(kind="video", system="s")
    assert syphus.worded(video, facts) == 'timestamps: [[0.0, 1.3], [1.3, 3.0]]\nsentences: ["One.", "Two."]'
    whole = video.model_copy(update={"digits": 0})
    assert syphus.worded(whole, facts).startswith("timestamps: [[0, 1], [1, 3]]\n")
    walker = syphus.Preset(kind="first-person", system="s")
    assert syphus.worded(walker, facts) == (
        "timestamp: 0.0\ndescription: One.\nobjects: cup\n\ntimestamp: 1.3\ndescription: Two.\nobjects: "
    )
    many = Facts(id="a", images=["1"], sentences=[f"Thing {number}." for number in range(70)])
    said = syphus.worded(syphus.Preset(kind="scene", system="s"), many).splitlines()
    assert len(said) == len(set(said)) == 50 and said != sorted(said, key=lambda line: int(line[6:-1]))


@pytest.mark.parametrize(
    ("rules", "reply", "problem"),
    [
        ({}, "Sure! Here you are.\nQuestion: A?\nAnswer: B.", "it begins with 'Sure!"),
        ({}, "", "there is no line"),
        ({}, "Answer: B.\nQuestion: A?", "a question comes first"),
        ({}, "Question: A?\nQuestion: B?\nAnswer: C.", "must take turns"),
        ({}, "Question: A?\nAnswer: B.\nQuestion: C?", "must take turns"),
        ({}, "Question: A?\nAnswer:", "is empty"),
        ({}, "Question: A?\nAnswer: B.\nQuestion: a?\nAnswer: C.", "stands twice"),
        ({"least": 2}, "Question: A?\nAnswer: B.", "there are 1 pairs; write 2 to 20"),
        ({"least": 2, "most": 2}, "Question: A?\nAnswer: B.", "write 2$"),
        ({"question_words": 3}, "Question: What is it now?\nAnswer: B.", "more than 3 words"),
        ({"never": ["video"]}, "Question: A?\nAnswer: The Videos end.", "it says 'Videos', which it must not"),
        ({"one_of": ["I", "you"]}, "Question: A?\nAnswer: It is.", "it says none of I, you"),
        ({"times": False}, "Question: A?\nAnswer: At 0:15.", "it says '0:15'"),
        ({"times": False}, "Question: A?\nAnswer: After 3 seconds.", "it says '3 seconds'"),
        ({"people": False}, "Question: A?\nAnswer: Person B waves.", "it says 'Person B'"),
    ],
)
def test_replies_of_another_form_are_refused(rules: dict[str, Any], reply: str, problem: str) -> None:
    preset = syphus.Preset(kind="scene", system="s", rules=syphus.Rules.model_validate(rules))
    with pytest.raises(ReplyError, match=problem):
        syphus.SyphusPrompt(preset).parse(reply, Material(Facts(id="1")))


def test_texts_may_go_on_over_lines() -> None:
    assert syphus.lines("Question: A?\nAnswer: One,\n\n two.\n\nQuestion: B?\nAnswer: C.\n") == [
        ("A?", "One,\ntwo."),
        ("B?", "C."),
    ]


def test_single_pairs_name_each_other_and_frames_take_the_clip_s_place(tmp_path: Path) -> None:
    found = build(tmp_path / "set", "preset=video", "items=1", "frames.limit=3")
    assert len(found) > 2 and [len(one.media) for one in found] == [3] * len(found)
    assert {medium.kind for one in found for medium in one.media} == {"image"}
    for one in found:
        assert one.context_ids == [other.id for other in found if other is not one]
        assert len(one.messages) == 2
    assert not (tmp_path / "set/videos").exists()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    frames = [Image.new("RGB", (32, 32), (level, 80, 80)) for level in range(0, 200, 10)]
    (tmp_path / "pour.mp4").write_bytes(encode_clip(frames, 10))
    row = {"id": "pour", "video": "pour.mp4", "sentences": ["Milk is poured.", "A cup is full."]}
    (tmp_path / "facts.jsonl").write_text(json.dumps(row | {"timestamps": [[0, 1], [1, 2]]}) + "\n")
    return tmp_path / "facts.jsonl"


def test_a_model_writes_of_annotations_of_ones_own_and_is_sent_back_what_breaks_a_rule(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    complaints = []

    def writes(body: dict[str, Any]) -> str:
        last = body["messages"][-1]["content"]
        pair = "Question: What did I pour?\nAnswer: You poured milk."
        if last.startswith("timestamp: 0.0\ndescription: Milk is poured."):
            return pair
        complaints.append(last)
        if len(complaints) == 1:
            return "\n".join(f"Question: At {number} seconds?\nAnswer: You pour." for number in range(6))
        return "\n".join([pair, *(f"Question: Do I see cup {number}?\nAnswer: Yes." for number in range(5))])

    with serving(writes) as server:
        code, printed, error = call(
            *("build", "syphus", "preset=first-person", f"facts={own}", "turns=all", "--out", tmp_path / "set"),
            *("--backend", "openai", "--model", "m", "--base-url", server.url),
        )
    assert (code, error) == (0, "") and "1 conversation," in printed
    assert [re.findall(r"cannot be used: (.*?)\.", one)[0] for one in complaints] == [
        "there are 1 pairs; write 6 to 12",
        "it says '0 seconds', which it must not",
    ]
    (one,) = formats.read(tmp_path / "set")
    assert pairs(one)[0] == ("What did I pour?", "You poured milk.") and len(pairs(one)) == 6
    assert (tmp_path / "set" / one.media[0].path).read_bytes() == (tmp_path / "pour.mp4").read_bytes()
    assert server.requests[0]["temperature"] == 0.7 and server.requests[0]["max_tokens"] == 3200


def test_a_preset_of_ones_own_and_broken_ones(own: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("kind: video\nsystem: Write.\nrules: {least: 1, most: 1}\n")
    (one,) = build(tmp_path / "set", f"preset={mine}", f"facts={own}")
    assert one.id == "syphus/mine/pour/0" and one.task == "syphus+mine"
    for content, problem in (
        ("kind: film\nsystem: W\n", r"mine\.yaml: kind: "),
        ("kind: video\nsystem: W\nrules: {least: 3, most: 2}\n", r"least \(3\) is above most \(2\)"),
    ):
        mine.write_text(content)
        with pytest.raises(ConfigError, match=problem):
            load_builder("syphus", [f"preset={mine}"])
    with pytest.raises(ConfigError, match=r"no preset of syphus is called 'vidoe'\. Did you mean 'video'"):
        load_builder("syphus", ["preset=vidoe"])


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"video": "pour.mp4", "sentences": ["A."]}, "1 sentences and 0 timestamps; give one"),
        ({"video": "pour.mp4", "sentences": ["A."], "timestamps": [[2, 1]]}, "ends before it begins"),
        ({"images": ["a.png"], "sentences": ["A."], "timestamps": [[0, 1]]}, "give one 'video'"),
        ({"vidoe": "pour.mp4"}, "vidoe: Extra inputs"),
    ],
)
def test_broken_annotations(row: dict[str, Any], problem: str, own: Path, tmp_path: Path) -> None:
    own.write_text(own.read_text() + json.dumps({"id": "b"} | row) + "\n")
    with pytest.raises(DataError, match=rf"facts\.jsonl:2: .*{problem}.*; mend or drop it"):
        run(load_builder("syphus", [f"facts={own}"]), tmp_path / "set")


def test_broken_clips_are_one_line_or_a_dead_letter(own: Path, tmp_path: Path) -> None:
    row = json.loads(own.read_text())
    whole = (tmp_path / "pour.mp4").read_bytes()
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "cut.mp4").write_bytes(whole[: whole.index(b"mdat") + 40])
    rows = [row | {"id": name, "video": f"{name}.mp4"} for name in ("empty", "cut", "pour")]
    rows.append(row | {"id": "out", "video": "../pour.mp4"})
    (tmp_path / "in").mkdir()
    own = own.rename(tmp_path / "in/facts.jsonl")
    own.write_text("".join(json.dumps(one) + "\n" for one in rows))
    with pytest.raises(MediaError, match=r"empty\.mp4 has 0 bytes"):
        build(tmp_path / "a", f"facts={own}", f"media_root={tmp_path}")
    (tmp_path.parent / "pour.mp4").write_bytes(whole)
    (one, *_) = build(tmp_path / "b", f"facts={own}", f"media_root={tmp_path}", on_error="skip")
    assert one.id == "syphus/video/pour/0"
    letters = [json.loads(line) for line in (tmp_path / "b/dead-letters.jsonl").read_text().splitlines()]
    assert [(each["item"], each["reason"]) for each in letters] == [
        ("empty", "media"),
        ("cut", "media"),
        ("out", "data"),
    ]
    assert "outside of the data set" in letters[2]["problem"] and not (tmp_path / "b/pour.mp4").exists()


def _one_thing(path: Path, color: str) -> bool:
    """Whether all pixels of a colour hang together."""
    with Image.open(path) as picture:
        mask = (np.asarray(picture.convert("RGB")) == COLORS[color]).all(axis=-1)
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return False
    flood = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8))
    ImageDraw.floodfill(flood, (int(columns[0]), int(rows[0])), 128)
    return not (np.asarray(flood) == 255).any()


def _place(x: float, y: float) -> str:
    row = "top" if y < 112 else "bottom" if y > 224 else ""
    column = "left" if x < 112 else "right" if x > 224 else ""
    return f"at the {' '.join(filter(None, (row, column)))}" if row or column else "in the middle"


def _ground(picture: Image.Image) -> str:
    corner = picture.convert("RGB").getpixel((0, 0))
    return next(name for name, color in GROUNDS.items() if color == corner)
