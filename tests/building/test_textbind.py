"""TextBind's builder: topics, every rule of cleaning, dialogues that are true, and pictures in their places."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mminstruct import formats
from mminstruct.building import Job, load_builder, run
from mminstruct.conversation import Conversation, ImagePart
from mminstruct.data_builders import textbind
from mminstruct.data_builders.textbind import RefusedError, TextBind, TextBindPrompt, clean
from mminstruct.data_builders.worlds.picture_talk import dialogue, tagged
from mminstruct.data_builders.worlds.scenes import COLORS, NUMBERS, SHAPES
from mminstruct.errors import ConfigError, DataError, MediaError, ReplyError
from tests.building.chat_server import serving
from tests.command import call

CAPTIONS = ["a dog runs in the snow", "a bowl of hot soup on a table", "smoke over a hut"]
GOOD = (
    "Human: <img0>a dog runs in the snow</img0> Is it cold?\n\n"
    "Assistant: It must be. This helps: <img1>a bowl of hot soup on a table</img1> Try it.\n\n"
    "Human: And where?\n\n"
    "Assistant: Here.\n<img2>smoke over a hut</img2>"
)
NAME = re.compile(rf"(?:{'|'.join(COLORS)}) (?:{'|'.join(SHAPES)})")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(TextBind(), "0", tmp_path, None)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Conversation]:
    out = tmp_path_factory.mktemp("textbind") / "set"
    run(load_builder("textbind", ["pictures=110", "topics=10"]), out)
    return list(formats.read(out))


def shown(conversation: Conversation) -> dict[int, str]:
    """Place of a picture in the dialogue to its caption, as the format's lists have them."""
    assert conversation.extra is not None
    captions = [one for turn in conversation.extra["conversation"] for one in turn.get("caption_list", [])]
    return dict(enumerate(captions))


# --- cleaning ---------------------------------------------------------------------------------------------------------


def test_a_good_reply_is_taken_whole(job: Job) -> None:
    turns = clean(GOOD, CAPTIONS, job)
    assert [turn.speaker for turn in turns] == ["Human", "Assistant"] * 2
    assert [turn.content for turn in turns] == [
        [0, " Is it cold?"],
        ["It must be. This helps: ", 1, " Try it."],
        ["And where?"],
        ["Here.\n", 2],
    ]
    assert not job.dropped


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("And where?", "And where? <img0>a dog runs in the snow</img0>", "a picture stands twice"),
        ("And where?", "And where? <img0>", "a picture stands twice"),
        ("img2>", "img3>", "a tag has a number that no picture has"),
        ("<img2>", "<img2></img12>", "a tag has a number that no picture has"),
        ("Human:", "Person:", "nobody speaks as Human:"),
        ("Assistant: It", "Human: It", "Human: and Assistant: do not speak by turns, Human: first"),
        (GOOD, "Assistant: Hello.\n\n" + GOOD, "Human: and Assistant: do not speak by turns, Human: first"),
        (GOOD[GOOD.index("\n\nHuman") :], "", "there are fewer than 3 turns"),
        ("a dog runs in the snow<", "a cat runs in the snow, quickly<", "a caption was changed"),
        ("smoke over a hut<", "<", "a caption was changed"),
        ("And where?", "And <image> where?", "a text holds the mark <image>"),
        (GOOD[GOOD.index("\n\nHuman: And where") :], "\n\nHuman: <img0>", None),
    ],
)
def test_each_rule_leaves_a_reply_out(old: str, new: str, rule: str | None, job: Job) -> None:
    reply = GOOD.replace(old, new)
    if rule is None:  # the tag is the first of its number where the other is taken out
        rule = "a picture stands twice"
    with pytest.raises(RefusedError, match=f"^{re.escape(rule)}$"):
        clean(reply, CAPTIONS, job)


def test_replies_without_a_picture_and_with_tags_across_turns(job: Job) -> None:
    bare = re.sub(r"</?img\d>", "", GOOD)
    across = "Human: <img0>a dog\n\nAssistant: runs in the snow</img0>\n\nHuman: Yes?\n\nAssistant: Yes."
    crossed = "Human: <img0>a dog runs in the snow</img1> x\n\nAssistant: y\n\nHuman: z\n\nAssistant: z"
    for reply in (bare, across, crossed):
        with pytest.raises(RefusedError, match=r"^no picture stands between a pair of tags$"):
            clean(reply, CAPTIONS, job)


def test_tags_without_a_partner_are_taken_out_and_counted(job: Job) -> None:
    reply = GOOD.replace("<img2>smoke over a hut</img2>", "<img2> over there").replace(
        "And where?", "And </img2>where?"
    )
    turns = clean(reply, CAPTIONS, job)
    assert [turn.content for turn in turns[2:]] == [["And where?"], ["Here.\n over there"]]
    assert job.dropped == {"a tag without its partner": 2}


def test_a_last_turn_without_an_answer_is_cut(job: Job) -> None:
    assert len(clean(f"{GOOD}\n\nHuman: Thank you!", CAPTIONS, job)) == 4
    assert job.dropped == {"a last turn without an answer": 1}
    short = "Human: <img0>a dog runs in the snow</img0>\n\nAssistant: Yes.\n\nHuman: Thanks."
    with pytest.raises(RefusedError, match="too little is left without the turn that has no answer"):
        clean(short, CAPTIONS, job)


def test_a_caption_may_change_by_a_tenth(job: Job) -> None:
    caption = "0123456789" * 3
    for edits, taken in [(0, True), (3, True), (4, False)]:
        written = "x" * edits + caption[edits:]
        reply = f"Human: <img0> {written}\n</img0>\n\nAssistant: b\n\nHuman: c\n\nAssistant: d"
        if taken:
            assert clean(reply, [caption], job)[0].content == [0]
        else:
            with pytest.raises(RefusedError, match="a caption was changed"):
                clean(reply, [caption], job)


def test_more_than_ten_pictures_in_one_dialogue(job: Job) -> None:
    captions = [f"picture number {number}" for number in range(12)]
    tags = " ".join(tagged(number, caption) for number, caption in enumerate(captions[:11]))
    reply = f"Human: {tags} Which?\n\nAssistant: This: {tagged(11, captions[11])}\n\nHuman: Why?\n\nAssistant: So."
    turns = clean(reply, captions, job)
    assert turns[0].pictures == list(range(11)) and turns[1].pictures == [11]


# --- topics -----------------------------------------------------------------------------------------------------------


def test_a_dialogue_keeps_to_a_topic_and_each_picture_has_one_place() -> None:
    builder = TextBind(TextBind.Options(pictures=160))
    groups = list(builder.items())
    names = [picture.id for group in groups for picture in group.pictures]
    assert len(names) == len(set(names)) > 110
    assert all(2 <= len(group.pictures) <= 4 for group in groups)
    assert [group.id for group in groups] == [group.id for group in TextBind(TextBind.Options(pictures=160)).items()]
    titles = [[re.findall('titled "(.+?)"', picture.caption) for picture in group.pictures] for group in groups]
    slides = [titled for titled in titles if any(titled)]
    same = sum(all(title == titled[0] for title in titled) for titled in slides)
    assert len(slides) > 15 and same / len(slides) > 0.7  # drawn at random, a tenth of the pairs would be


def test_small_and_loose_clusters_are_noise(caplog: pytest.LogCaptureFixture) -> None:
    def left(**options: Any) -> dict[int, int]:
        groups = TextBind(TextBind.Options(pictures=100, topics=8, **options)).items()
        sizes: dict[int, int] = {}
        for group in groups:
            assert group.topic is not None
            sizes[group.topic] = sizes.get(group.topic, 0) + len(group.pictures)
        return sizes

    everything = left(noisy=0, least_of_topic=1)
    assert len(left(noisy=0.5, least_of_topic=1)) == (len(everything) + 1) // 2
    large = left(noisy=0, least_of_topic=12)
    assert 0 < len(large) < len(everything) and min(large.values()) >= 10


def ground(picture: textbind.Picture) -> tuple[int, ...]:
    """Roughly the colour of the corner."""
    assert not isinstance(picture.source, Path)
    corner = picture.source.draw().convert("RGB").getpixel((1, 1))
    assert isinstance(corner, tuple)
    return tuple(part // 32 for part in corner)


def test_topics_by_colours_put_like_grounds_together() -> None:
    groups = list(TextBind(TextBind.Options(pictures=60, topics=5, features="colours")).items())
    grounds = [[ground(picture) for picture in group.pictures] for group in groups]
    assert len({one for group in grounds for one in group}) >= 3
    assert sum(len(set(group)) == 1 for group in grounds) / len(grounds) > 0.8


def test_topics_by_a_clip_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here one whose vectors are the mean colour; `mminstruct.building.clip` is tested with open_clip's own."""
    with pytest.raises(ConfigError, match="features=clip needs a model; give its folder as clip=DIR"):
        list(TextBind(TextBind.Options(features="clip")).items())
    seen = []

    class MeanColour:
        def __init__(self, folder: Path) -> None:
            assert folder == tmp_path

        def image(self, source: Path | Image.Image) -> np.ndarray:
            assert isinstance(source, Image.Image) and source.mode == "RGB"
            seen.append(source.size)
            return np.asarray(source, np.float32).mean(axis=(0, 1), keepdims=True)[0] - 200

    monkeypatch.setattr(textbind, "Clip", MeanColour)
    options = TextBind.Options(features="clip", clip=tmp_path, pictures=24, topics=3, least_of_topic=2, noisy=0)
    groups = list(TextBind(options).items())
    assert len(seen) == 24 and sum(len(group.pictures) for group in groups) > 15
    assert [group.pictures for group in groups] == [group.pictures for group in TextBind(options).items()]


# --- dialogues --------------------------------------------------------------------------------------------------------


def test_pictures_stand_where_their_tags_stood(found: list[Conversation]) -> None:
    roles = set()
    assert len(found) > 25
    for one in found:
        captions, seen = shown(one), 0
        assert [message.role for message in one.messages] == ["user", "assistant"] * (len(one.messages) // 2)
        assert one.extra is not None and len(one.extra["conversation"]) == len(one.messages) >= 4
        for message, lists in zip(one.messages, one.extra["conversation"], strict=True):
            places = [part.index for part in message.content if isinstance(part, ImagePart)]
            assert places == list(range(seen, seen + len(places)))
            assert len(lists.get("caption_list", [])) == len(lists.get("url_list", [])) == len(places)
            roles |= {message.role} if places else set()
            seen += len(places)
            assert "<img" not in message.text and (places or message.text == message.text.strip())
        assert seen == len(one.media) == len(captions)
    assert roles == {"user", "assistant"}


def test_what_is_said_is_true_of_the_captions(found: list[Conversation]) -> None:
    """Computed of the captions in another way: by what they name, not by the phrases that made them."""
    checked = dict.fromkeys(("where", "count", "both", "title", "shows"), 0)
    ordinals = ["first", "second", "third", "fourth", "fifth"]
    for one in found:
        captions, seen = shown(one), 0
        for asked, told in zip(one.messages[::2], one.messages[1::2], strict=True):
            question, answer = asked.text.strip(), told.text.strip()
            seen += sum(isinstance(part, ImagePart) for part in (*asked.content, *told.content))
            last = captions[seen - 1]
            if re.match(r"In which of the pictures|Where did I see", question):
                (name,) = NAME.findall(question)
                having = [place for place in range(seen) if name in captions[place]]
                assert answer == f"In the {ordinals[having[0]]} one." and len(having) == 1
                checked["where"] += 1
            elif question.startswith("How many shapes"):
                assert answer.startswith(f"There are {NUMBERS[len(NAME.findall(last))]}:")
                assert NAME.findall(answer) == NAME.findall(last)
                checked["count"] += 1
            elif question.startswith("What is the title"):
                assert last.startswith(f'A slide titled "{re.findall(chr(34) + "(.+)" + chr(34), answer)[0]}"')
                checked["title"] += 1
            elif match := re.search(r"[Bb]oth (are slides about|have) (.+)\.$", answer):
                about = captions[seen - 2], last
                if match[1] == "have":
                    for part in re.findall(r"(?:a|an) ([a-z ]+?)(?:,| and| in them|$)", match[2]):
                        words = part.removesuffix(" shape")
                        assert all(words in caption for caption in about), (part, about)
                else:
                    assert all(match[2] in caption for caption in about)
                checked["both"] += 1
            elif match := re.match(r"(?:It shows|I see|This is) (.+)\.$", answer):
                assert match[1] in last.removesuffix(".") or match[1][1:] in last
                checked["shows"] += 1
    assert min(checked.values()) >= 3, checked


def test_talk_about_captions_of_any_kind(job: Job) -> None:
    captions = ["A dog runs in the snow", "Dogs at play in deep snow.", "NASA launches a rocket", "ein Haus am See"]
    told = [dialogue(captions, random.Random(number)) for number in range(60)]
    for reply in told:
        turns = clean(reply, captions, job)
        assert sorted(place for turn in turns for place in turn.pictures) == [0, 1, 2, 3]
    whole = "\n".join(told)
    assert (
        "oth have to do with" in whole and "Nothing that I could name" in whole and '"NASA launches a rocket"' in whole
    )
    assert len(set(told)) > 50 and not job.dropped
    alone = clean(dialogue(["a cat"], random.Random(0)), ["a cat"], job)
    assert len(alone) >= 3


def test_the_prompt_is_system_examples_and_tagged_captions() -> None:
    prompt = TextBindPrompt(textbind.PROMPTS)
    messages = prompt.messages(CAPTIONS)
    assert [one.role for one in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[-1].text == "\n".join(f"<img{n}>{caption}</img{n}>" for n, caption in enumerate(CAPTIONS))
    for asked, reply in zip(messages[1:-1:2], messages[2:-1:2], strict=True):
        captions = re.findall(r"<img\d>(.+)</img\d>", asked.text)
        counting = Job(TextBind(), "0", Path(), None)
        assert clean(prompt.parse(reply.text, captions), captions, counting) and not counting.dropped
    for reply in ("A nice dog.", GOOD.replace("Assistant:", "Human:"), "Human: a\n\nAssistant: b"):
        with pytest.raises(ReplyError):
            prompt.parse(reply, CAPTIONS)


def test_the_published_form(found: list[Conversation], tmp_path: Path) -> None:
    for name in ("1.json", "2.json"):
        formats.write(found, tmp_path / name, "textbind")
        assert list(formats.read(tmp_path / name)) == found
    items = json.loads((tmp_path / "1.json").read_text())
    for item in items:
        for turn in item["conversation"]:
            count = turn["content"].count("<image>")
            assert len(turn["image_list"]) == len(turn["caption_list"]) == len(turn["url_list"]) == count
        assert item["image_dir"].startswith("images")


# --- files of one's own -----------------------------------------------------------------------------------------------


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    rows = []
    for number in range(6):
        name = f"фото {number}.png"
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(tmp_path / name)
        rows.append({"image": name, "caption": f"a bus, number {number}", "url": f"https://example.org/{number}"})
    path = tmp_path / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_model_writes_of_pictures_of_ones_own(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    asked: list[str] = []

    def writes(body: dict[str, Any]) -> str:
        given = body["messages"][-1]["content"]
        if "cannot be used" in given:
            given = next(one["content"] for one in reversed(body["messages"]) if one["content"].startswith("<img0>"))
        asked.append(given)
        tags = given.split("\n")
        if len(asked) == 1:
            return "There are two busses."  # no dialogue: asked for again
        if len(asked) == 3:
            return f"Human: {tags[0]} {tags[0]}\n\nAssistant: Two.\n\nHuman: Yes.\n\nAssistant: Good."
        return f"Human: Where is it?\n\nAssistant: Here: {tags[1]}\n\nHuman: And {tags[0]}\n\nAssistant: There."

    out = tmp_path / "set"
    options = [f"captions={photographs}", "most=2", "topics=1", "noisy=0"]
    with serving(writes) as server:
        code, printed, error = call(
            *("build", "textbind", *options, "--out", out, "--backend", "openai", "--model", "m"),
            *("--base-url", server.url),
        )
    assert code == 0, error
    assert printed == f"{out}: 2 conversations, 4 images\n"
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["builder"]["dropped"] == {"a picture stands twice": 1}
    first = next(formats.read(out))
    captions = re.findall("<img.>(.+)</img.>", asked[1])
    assert shown(first) == {0: captions[1], 1: captions[0]}  # in the order in which they are shown
    assert first.media[0].path == f"images/фото {captions[1][-1]}.png"
    assert first.extra is not None and first.extra["conversation"][1]["url_list"] == [
        f"https://example.org/{captions[1][-1]}"
    ]
    assert first.provenance is not None and len(first.provenance.call_ids) == 2


def test_raw_records_are_cleaned_by_the_same_rules(photographs: Path, tmp_path: Path) -> None:
    def record(reply: str) -> dict[str, Any]:
        tags = [f"<img{number}>{caption}</img{number}>" for number, caption in enumerate(CAPTIONS)]
        return {"response": reply, "image": tags, "image_idx": [7, 8, 9], "url": ["u7", "u8", "u9"]}

    for number in (7, 8, 9):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{number}.png")
    replies = [
        GOOD,
        GOOD,
        GOOD.replace("img2>", "img5>"),
        GOOD.replace("Human:", "Person:"),
        GOOD.replace("Assistant: It", "Human: It"),
        GOOD[: GOOD.index("\n\nHuman")],
        re.sub(r"</?img\d>", "", GOOD),
        GOOD.replace("snow<", "deep snow of winter<"),
        GOOD.replace("And where?", "<img0>"),
        GOOD.replace("<img2>", ""),
    ]
    (tmp_path / "raw.json").write_text(json.dumps([record(reply) for reply in replies]))
    run(load_builder("textbind", [f"raw={tmp_path / 'raw.json'}"]), tmp_path / "set")
    found = list(formats.read(tmp_path / "set"))
    assert [one.id for one in found] == ["textbind/raw/0", "textbind/raw/9"]
    assert [media.path for media in found[0].media] == ["images/7.png", "images/8.png", "images/9.png"]
    assert found[1].messages[3].text == "Here.\nsmoke over a hut" and len(found[1].media) == 2
    assert json.loads((tmp_path / "set/manifest.json").read_text())["builder"]["dropped"] == {
        "the same reply again": 1,
        "a tag has a number that no picture has": 1,
        "nobody speaks as Human:": 1,
        "Human: and Assistant: do not speak by turns, Human: first": 1,
        "there are fewer than 3 turns": 1,
        "no picture stands between a pair of tags": 1,
        "a caption was changed": 1,
        "a picture stands twice": 1,
        "a tag without its partner": 1,
    }


def test_broken_files_and_options(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="most is 1, less than least, 2; exchange them"):
        list(TextBind(TextBind.Options(most=1)).items())
    (tmp_path / "фото 3.png").write_bytes(b"")
    with pytest.raises(MediaError, match=r"фото 3\.png is empty"):
        run(load_builder("textbind", [f"captions={photographs}", "topics=1", "noisy=0"]), tmp_path / "a")
    with photographs.open("a") as stream:
        stream.write('{"image": "a.png", "caption": ""}\n')
    with pytest.raises(DataError, match=r"captions\.jsonl:7: caption: .*mend or drop it"):
        run(load_builder("textbind", [f"captions={photographs}", "topics=1", "noisy=0"]), tmp_path / "b")
    raw = tmp_path / "raw.json"
    raw.write_text(json.dumps([{"response": GOOD, "image": ["a"], "image_idx": [1, 2]}]))
    with pytest.raises(DataError, match=r"raw\.json, item 0 has not as many of image, image_idx and url"):
        run(load_builder("textbind", [f"raw={raw}"]), tmp_path / "c")
