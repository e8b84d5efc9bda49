"""LLaVA-Plus JSON: answers are the text that is trained on, taken apart and put together without loss."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from mminstruct import chat_template, formats
from mminstruct.conversation import Conversation, Media, image, message
from mminstruct.errors import DataError
from mminstruct.formats.llava_plus import ToolTurn, parse, serialise

ACTION = {"API_name": "grounding_dino", "API_params": {"caption": "girl . cart"}}
OUTPUT = "grounding_dino output: {'boxes': [[0.1, 0.25, 0.5, 1.0]]}\n\nAnswer my first question: Where is she?"
ITEM: dict[str, Any] = {
    "unique_id": "1689_12",
    "file_name": "été 雪.jpg",
    "image": "été 雪.jpg",
    "conversations": [
        {"from": "human", "value": "<image>\nWhere is she?"},
        {"from": "gpt", "thoughts": "I should look.", "actions": [ACTION], "value": "I will use grounding_dino."},
        {"from": "human", "value": OUTPUT},
        {"from": "gpt", "thoughts": "Now I know.", "actions": [], "value": "At the left. 😀"},
    ],
    "image_id": 12,
    "data_source": "coco",
}


def read(tmp_path: Path, *items: Any) -> list[Conversation]:
    path = tmp_path / "set.json"
    path.write_text(json.dumps(items, ensure_ascii=False), encoding="utf-8")
    return list(formats.read(path))


def written(tmp_path: Path, conversations: list[Conversation]) -> Any:
    path = tmp_path / "written.json"
    path.unlink(missing_ok=True)
    formats.write(conversations, path, "llava-plus")
    return json.loads(path.read_text(encoding="utf-8"))


def test_an_item_as_published_becomes_the_text_that_is_trained_on(tmp_path: Path) -> None:
    (found,) = read(tmp_path, ITEM)
    assert found.id == "1689_12" and found.media == [Media(path="été 雪.jpg")]
    assert [one.role for one in found.messages] == ["user", "assistant", "user", "assistant"]
    assert found.messages[1].text == (  # by hand, as `reorganize_source_for_tool_use` has it
        '"thoughts🤔" I should look.\n'
        '"actions🚀" [{"API_name": "grounding_dino", "API_params": {"caption": "girl . cart"}}]\n'
        '"value👉" I will use grounding_dino.\n'
    )
    assert found.messages[3].text == '"thoughts🤔" Now I know.\n"actions🚀" []\n"value👉" At the left. 😀\n'
    assert found.messages[2].text == OUTPUT
    assert found.extra == {"image_id": 12, "data_source": "coco"}
    assert written(tmp_path, [found]) == [ITEM]


def test_only_answers_carry_the_loss(tmp_path: Path) -> None:
    (found,) = read(tmp_path, ITEM)
    pieces = chat_template.get("vicuna_v1", None).render(found.messages)
    supervised = "".join(piece.text for piece in pieces if piece.supervised)
    assert all(found.messages[turn].text in supervised for turn in (1, 3)) and OUTPUT not in supervised


def random_text(rng: random.Random) -> str:
    pieces = ["a", " ", "\n", "日本", "😀", '"', "{", "]", "value👉", '"thoughts🤔"', "\\n", "\u2028", "\r\n", ""]
    return "".join(rng.choices(pieces, k=rng.randint(0, 8)))


def random_json(rng: random.Random, depth: int = 3) -> Any:
    kind = rng.randrange(9 if depth else 7)
    if kind == 7:
        return [random_json(rng, depth - 1) for _ in range(3)]
    if kind == 8:
        return {random_text(rng): random_json(rng, depth - 1) for _ in range(3)}
    return [None, True, rng.random(), rng.randint(-(2**60), 2**60), random_text(rng), -0.0, 1e-300][kind]


def test_serialise_and_parse_are_inverse() -> None:
    rng = random.Random(0)
    for _ in range(2000):
        actions = [{"API_name": random_text(rng), "API_params": random_json(rng)} for _ in range(rng.randint(0, 3))]
        turn = ToolTurn(random_text(rng), actions, random_text(rng))
        assert parse(serialise(turn)) == turn


def test_a_reply_of_a_model_is_read_without_its_last_line_break() -> None:
    text = serialise(ToolTurn("Look.", [ACTION], "Wait."))
    assert parse(text.removesuffix("\n")) == parse(text) == ToolTurn("Look.", [ACTION], "Wait.")


@pytest.mark.parametrize(
    "text",
    [
        "A cat.",
        '"value👉" A cat.\n',
        '"thoughts🤔" x\n"actions🚀" [{]\n"value👉" y\n',
        '"thoughts🤔" x\n"actions🚀" {}\n"value👉" y\n',
        '"thoughts🤔" x\n"actions🚀" ["a"]\n"value👉" y\n',
        '"thoughts🤔" x\n"actions🚀" [{"a": NaN}]\n"value👉" y\n',
        '"thoughts🤔" x\n"actions🚀" [{"a": 1e999}]\n"value👉" y\n',
        '"thoughts🤔" x\n"actions🚀" [ ]\n"value👉" y\n',
        '"thoughts🤔" x\n"actions🚀" []\n"value👉" y',
        ' "thoughts🤔" x\n"actions🚀" []\n"value👉" y\n',
    ],
)
def test_texts_of_another_form_are_plain_answers(text: str, tmp_path: Path) -> None:
    given = Conversation(id="1", messages=[message("user", "?"), message("assistant", text)])
    (item,) = written(tmp_path, [given])
    assert item["conversations"][1] == {"from": "gpt", "value": text}
    assert list(formats.read(tmp_path / "written.json")) == [given]


def test_marks_stand_in_answers_and_show_the_one_picture(tmp_path: Path) -> None:
    turns = [ITEM["conversations"][0], *ITEM["conversations"][1:]]
    turns[1] = turns[1] | {"thoughts": "In <image> I see", "value": "Look at <image>."}
    turns[2] = turns[2] | {"value": f"{OUTPUT}\n<image>"}  # as `collect_data.py` asks again
    (found,) = read(tmp_path, ITEM | {"conversations": turns})
    assert len(found.media) == 4 and {media.path for media in found.media} == {"été 雪.jpg"}
    assert written(tmp_path, [found]) == [ITEM | {"conversations": turns}]
    twice = Conversation(
        id="1", messages=[message("user", image(), image()), message("assistant", image())], media=[Media(path="a")]
    )
    written(tmp_path, [twice])
    assert list(formats.read(tmp_path / "written.json")) == [twice]


def test_names_of_the_picture(tmp_path: Path) -> None:
    old = {key: value for key, value in ITEM.items() if key != "image"}
    (found,) = read(tmp_path, old)
    assert found.media[0].path == "été 雪.jpg" and written(tmp_path, [found]) == [ITEM]
    (found,) = read(tmp_path, ITEM | {"image": "coco/x.jpg"})
    assert found.media[0].path == "coco/x.jpg" and found.extra == {
        **{"file_name": "été 雪.jpg", "image_id": 12, "data_source": "coco"}
    }
    written(tmp_path, [found])
    assert list(formats.read(tmp_path / "written.json")) == [found]
    (bare,) = read(tmp_path, {"unique_id": 3, "conversations": [{"from": "human", "value": "Hello"}], "id": "mine"})
    assert (bare.id, bare.media, bare.extra) == ("3", [], {"id": "mine"})
    written(tmp_path, [bare])
    assert list(formats.read(tmp_path / "written.json")) == [bare]


def test_tool_records_survive_the_other_formats(tmp_path: Path) -> None:
    (found,) = read(tmp_path, ITEM)
    for name in ("llava", "textbind", "messages", "openai", "native"):
        out = tmp_path / ("folder" if name == "native" else f"{name}.json")
        formats.write([found], out, name)
        assert formats.detect(out) == ("messages" if name == "openai" else name)
        assert written(tmp_path, list(formats.read(out))) == [ITEM], name


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"thoughts": None}, "turn 1 has 'actions'; an answer (gpt) has both 'thoughts' and 'actions', or none"),
        ({"from": "human"}, "turn 1 has 'thoughts'; an answer (gpt) has both"),
        ({"thoughts": 3}, "turn 1 needs a text as 'thoughts' and a list as 'actions'"),
        ({"actions": {}}, "turn 1 needs a text as 'thoughts' and a list as 'actions'"),
        ({"actions": ["look"]}, "turn 1 has an action that is no object"),
        ({"thoughts": 'x\n"actions🚀" []\n"value👉" y'}, "holds a marker of thoughts, actions or value"),
        ({"value": None}, "turn 1 needs a text under both 'from' and 'value'"),
    ],
)
def test_turns_that_do_not_fit(change: dict[str, Any], problem: str, tmp_path: Path) -> None:
    turns = [ITEM["conversations"][0], ITEM["conversations"][1] | change]
    with pytest.raises(DataError) as caught:
        read(tmp_path, ITEM, ITEM | {"unique_id": "b", "conversations": turns})
    assert str(caught.value).startswith(f"{tmp_path}/set.json, item 1 (id 'b')") and problem in str(caught.value)


def test_items_that_do_not_fit(tmp_path: Path) -> None:
    for item, problem in [
        (ITEM | {"conversations": None}, "has no turns"),
        (ITEM | {"image": ["a", "b"]}, "names several pictures; its format has one for an item, write them as llava"),
        (ITEM | {"conversations": ITEM["conversations"][1:]}, "has 0 <image> marks and 1 image"),
        (ITEM | {"unique_id": []}, "has an id that is a list"),
    ]:
        with pytest.raises(DataError, match=r"set\.json, item 0") as caught:
            read(tmp_path, item)
        assert problem in str(caught.value)
    ten = Conversation(
        id="1",
        messages=[message("user", *(image(index) for index in range(10)))],
        media=[Media(path=f"{index}.png") for index in range(10)],
    )
    with pytest.raises(
        DataError, match="has 10 pictures, and an item of the LLaVA-Plus format names one; write another"
    ):
        written(tmp_path, [ten])
    with pytest.raises(DataError, match="no JSON"):
        serialise(ToolTurn("", [{"a": float("nan")}], ""))
