"""MIMIC-IT's folders: instructions, links and pictures, read and written without loss, or refused with a reason."""

from __future__ import annotations

import base64
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mminstruct import formats
from mminstruct.conversation import (
    Conversation,
    ImagePart,
    Media,
    Message,
    Part,
    Preference,
    TextPart,
    image,
    message,
    text,
)
from mminstruct.errors import ConfigError, DataError, MediaError, MminstructError, RunError
from mminstruct.files import sha256
from mminstruct.media import open_image
from tests.command import call

TEXTS = ["What is this?", "  spaces ", "日本語", "\n", "a\x00b", '"quoted" \\', "<image>", "é😀", "line\r\nline"]


def picture(folder: Path, name: str, color: tuple[int, int, int]) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 4), color).save(path)
    return name


def encoded(color: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (3, 2), color).save(stream, "PNG")
    return stream.getvalue()


def content(rng: random.Random, media: list[int]) -> list[Part]:
    """Texts and pictures in turn, in any order; no two texts side by side, which one instruction cannot tell apart."""
    parts: list[Part] = []
    for index in [None, *media]:
        if index is not None:
            parts.append(ImagePart(index=index))
        if rng.random() < 0.7:
            parts.append(TextPart(text=rng.choice(TEXTS)))
    return parts


def random_conversations(seed: int, folder: Path, count: int = 60) -> list[Conversation]:
    rng = random.Random(seed)
    names = [picture(folder, f"bilder/ü {number}.v1.png", (number, 0, seed)) for number in range(20)]
    found = []
    for number in range(count):
        media = [Media(path=name) for name in rng.sample(names, rng.choice([0, 1, 1, 2, 10]))]
        if media and rng.random() < 0.3:
            media[0] = media[0].model_copy(update={"width": 5, "height": 4, "sha256": sha256(folder / media[0].path)})
        messages = []
        left = list(range(len(media)))
        rng.shuffle(left)
        turns = rng.randint(1, 4)
        for turn in range(turns):
            here = (
                []
                if not left
                else left
                if turn == turns - 1
                else [left.pop() for _ in range(rng.randint(0, len(left)))]
            )
            again = [rng.randrange(len(media))] if media and rng.random() < 0.2 else []
            messages.append(Message(role="user", content=content(rng, here + again)))
            answer = rng.choice(TEXTS)
            messages.append(Message(role="assistant", content=[text(answer)]))
        extra = rng.choice([None, {}, {"a": [1, None]}, {"instruction": 1}, {"id": "x"}, {"parts": 2}, {"messages": 3}])
        preference = Preference(chosen=[message("assistant", "yes")], rejected=[message("assistant", "no")])
        found.append(
            Conversation(
                id=rng.choice([f"a/{number}", f"AB_INS_{number}", f"日 {number}"]),
                messages=messages,
                media=media,
                answers=rng.choice([None, ["x"]]),
                context_ids=rng.choice([None, [], ["nobody"] * turns]),
                preference=rng.choice([None, preference]),
                extra=extra,
            )
        )
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name.replace(folder.name, "XX"): path.read_bytes() for path in sorted(folder.iterdir())}


def moved(conversations: list[Conversation], old: Path, new: Path) -> list[Conversation]:
    return list(formats.relocate(conversations, old, new))


def without_paths(conversations: list[Conversation]) -> list[dict[str, Any]]:
    """The media's bytes are compared beside this; reading gives their files the names of the pictures' ids."""
    return [
        one.model_copy(update={"media": [m.model_copy(update={"path": ""}) for m in one.media]}).model_dump()
        for one in conversations
    ]


@pytest.mark.parametrize("seed", range(3))
def test_write_read_write(seed: int, tmp_path: Path) -> None:
    given = random_conversations(seed, tmp_path / "given")
    first, second = tmp_path / "one" / "XY", tmp_path / "two" / "XY"
    assert formats.write(moved(given, tmp_path / "given", first), first, "mimicit") == len(given)
    assert formats.detect(first) == "mimicit" and formats.embeds(first, "mimicit")
    unpacked = tmp_path / "unpacked"
    found = list(formats.read(first, unpack=unpacked))
    assert without_paths(found) == without_paths(given)
    for one, other in zip(found, given, strict=True):
        for mine, theirs in zip(one.media, other.media, strict=True):
            assert (unpacked / mine.path).read_bytes() == (tmp_path / "given" / theirs.path).read_bytes()
    formats.write(moved(found, unpacked, second), second, "mimicit")
    assert contents(first) == contents(second)
    assert [one.model_dump() for one in formats.read(first)] == [one.model_dump() for one in found]  # names alone


def published(folder: Path, images: dict[str, Any] | None = None, train: Any = None, **changes: Any) -> Path:
    """A set as it is published: three questions about two pictures, ids with their set's short name."""
    folder.mkdir(parents=True)
    data: dict[str, dict[str, Any]] = {
        "LA_INS_0": {"instruction": "What is it?", "answer": "Red.", "image_ids": ["LA_IMG_a.b"], "rel_ins_ids": []},
        "LA_INS_1": {
            "instruction": "And this?",
            "answer": "Blue.",
            "image_ids": ["LA_IMG_ü"],
            "rel_ins_ids": ["LA_INS_0"],
        },
        "LA_INS_2": {
            "instruction": "Is it dark?",
            "answer": "No.",
            "image_ids": ["LA_IMG_a.b"],
            "rel_ins_ids": ["LA_INS_0"],
        },
        "LA_INS_3": {"instruction": "Are you there?", "answer": "Yes.", "rel_ins_ids": []},
    }
    data["LA_INS_1"].update(changes)
    meta = {"version": "0.0.1", "time": "2023-06", "author": "ntu"}
    (folder / "LA_instructions.json").write_text(json.dumps({"meta": meta, "data": data}, indent=1))
    red, blue = (base64.b64encode(encoded(color)).decode() for color in ((255, 0, 0), (0, 0, 255)))
    (folder / "LA.json").write_text(json.dumps({"LA_IMG_a.b": red, "LA_IMG_ü": blue} if images is None else images))
    if train is not None:
        (folder / "LA_train.json").write_text(json.dumps(train))
    return folder


def test_a_published_set_is_read_with_its_examples(tmp_path: Path) -> None:
    """An example of another picture shows its own; one of the same picture is an earlier turn about it."""
    folder = published(tmp_path / "LA")
    found = list(formats.read(folder, unpack=tmp_path / "pictures"))
    assert [one.id for one in found] == [f"LA_INS_{number}" for number in range(4)]
    assert [one.context_ids for one in found] == [None, ["LA_INS_0"], ["LA_INS_0"], None]
    assert [one.messages for one in found] == [
        [message("user", image(0), "What is it?"), message("assistant", "Red.")],
        [
            *[message("user", image(0), "What is it?"), message("assistant", "Red.")],
            *[message("user", image(1), "And this?"), message("assistant", "Blue.")],
        ],
        [
            *[message("user", image(0), "What is it?"), message("assistant", "Red.")],
            *[message("user", "Is it dark?"), message("assistant", "No.")],
        ],
        [message("user", "Are you there?"), message("assistant", "Yes.")],
    ]
    assert [[media.path for media in one.media] for one in found] == [
        ["images/LA_IMG_a.b.png"],
        ["images/LA_IMG_a.b.png", "images/LA_IMG_ü.png"],
        ["images/LA_IMG_a.b.png"],
        [],
    ]
    assert open_image(tmp_path / "pictures/images/LA_IMG_ü.png").getpixel((0, 0)) == (0, 0, 255)


def test_a_published_set_comes_back_as_it_was(tmp_path: Path) -> None:
    folder = published(tmp_path / "LA")
    found = list(formats.read(folder, unpack=tmp_path / "pictures"))
    first, second = tmp_path / "1" / "LA", tmp_path / "2" / "LA"
    formats.write(moved(found, tmp_path / "pictures", first), first, "mimicit")
    again = list(formats.read(first, unpack=tmp_path / "again"))
    assert again == found
    formats.write(moved(again, tmp_path / "again", second), second, "mimicit")
    assert contents(first) == contents(second)
    given, written = (json.loads((one / "LA_instructions.json").read_text())["data"] for one in (folder, first))
    given["LA_INS_3"]["image_ids"] = []
    assert written == given and list(written) == list(given)
    assert json.loads((first / "LA.json").read_text()) == json.loads((folder / "LA.json").read_text())
    assert json.loads((first / "LA_train.json").read_text()) == {
        name: item["rel_ins_ids"] for name, item in given.items()
    }


def test_the_file_of_links_says_what_is_trained_on(tmp_path: Path) -> None:
    folder = published(tmp_path / "LA", train={"LA_INS_2": ["LA_INS_1", "LA_INS_0"], "LA_INS_0": []})
    first, second = formats.read(folder / "LA_instructions.json")
    assert (first.id, first.context_ids, second.id) == ("LA_INS_2", ["LA_INS_1", "LA_INS_0"], "LA_INS_0")
    assert [m.text for m in first.messages] == ["And this?", "Blue.", "What is it?", "Red.", "Is it dark?", "No."]
    places = [[p.index for p in m.content if isinstance(p, ImagePart)] for m in first.messages[::2]]
    assert places == [[0], [1], []]


def test_pictures_of_parquet_and_of_every_base64(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    data = encoded((251, 239, 190)) + b"\xfb\xef\xbe\xff\xff" * 3  # has both characters that the alphabets differ in
    standard = base64.b64encode(data).decode()
    urlsafe = base64.urlsafe_b64encode(data).decode()
    assert "+" in standard and "/" in standard and standard.endswith("=")
    for number, value in enumerate((standard, standard.rstrip("="), urlsafe, urlsafe.rstrip("="))):
        folder = published(tmp_path / str(number), images={"LA_IMG_a.b": value, "LA_IMG_ü": value})
        if number % 2:
            (folder / "LA.json").unlink()
            table = pyarrow.table({"base64": [value] * 2, "__index_level_0__": ["LA_IMG_a.b", "LA_IMG_ü"]})
            target = folder / "LA.parquet"
            if number == 3:  # as Dask writes a large one
                target.mkdir()
                target = target / "part.0.parquet"
            pyarrow.parquet.write_table(table, target)
        assert formats.detect(folder) == "mimicit"
        found = list(formats.read(folder, unpack=tmp_path / f"pictures{number}"))
        assert (tmp_path / f"pictures{number}" / found[1].media[1].path).read_bytes() == data
        assert all(file.is_file() for file in formats.files(folder, "mimicit"))


def test_examples_are_written_once(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path, f"{number}.png", (number, 0, 0))

    def asked(*numbers: int) -> list[Message]:
        pairs = [
            [message("user", image(place), f"Which {number}?"), message("assistant", f"Number {number}.")]
            for place, number in enumerate(numbers)
        ]
        return [one for pair in pairs for one in pair]

    def record(*numbers: int, context: list[str] | None) -> Conversation:
        media = [Media(path=f"{number}.png") for number in numbers]
        return Conversation(id=f"q/{numbers[-1]}", messages=asked(*numbers), media=media, context_ids=context)

    given = [record(1, 0, context=["q/1"]), record(0, 2, 1, context=["q/0", "q/2"]), record(2, context=None)]
    out = tmp_path / "AB"
    formats.write(moved(given, tmp_path, out), out, "mimicit")
    data = json.loads((out / "AB_instructions.json").read_text())["data"]
    assert list(data) == ["AB_INS_q/1", "AB_INS_q/0", "AB_INS_q/2"]
    assert data["AB_INS_q/1"] == {
        "instruction": "Which 1?",
        "answer": "Number 1.",
        "image_ids": ["AB_IMG_1"],
        "id": "q/1",
        "rel_ins_ids": ["AB_INS_q/0", "AB_INS_q/2"],
    }
    assert json.loads((out / "AB_train.json").read_text()) == {
        "AB_INS_q/0": ["AB_INS_q/1"],
        "AB_INS_q/1": ["AB_INS_q/0", "AB_INS_q/2"],
        "AB_INS_q/2": [],
    }
    assert without_paths(list(formats.read(out))) == without_paths(given)
    other = record(1, 0, context=["q/1"]).model_copy(update={"id": "q/9"})
    other.messages[1] = message("assistant", "Another answer.")
    with pytest.raises(DataError, match="'AB_INS_q/1' that differs from the one of that id before it"):
        formats.write(moved([*given, other], tmp_path, tmp_path / "CD" / "AB"), tmp_path / "CD" / "AB", "mimicit")
    assert not (tmp_path / "CD" / "AB").exists()


def test_names_of_pictures_that_collide_are_refused(tmp_path: Path) -> None:
    """Ids are the files' names up to the last dot, so a.b.jpg and a.c.jpg are two; x/a.png and y/a.png are one."""
    names = ["a.b.jpg", "a.c.jpg", "x/a.png", "y/a.png", "z/a.png"]
    for number, name in enumerate(names):
        picture(tmp_path, name, (40 * min(number, 3), 0, 0))
    given = [
        Conversation(id=name, messages=[message("user", image()), message("assistant", "a")], media=[Media(path=name)])
        for name in names
    ]

    def write(conversations: list[Conversation], out: Path) -> dict[str, str]:
        formats.write(moved(conversations, tmp_path, out), out, "mimicit")
        pictures: dict[str, str] = json.loads((out / f"{out.name}.json").read_text())
        return pictures

    assert list(write(given[:3], tmp_path / "A1")) == ["A1_IMG_a.b", "A1_IMG_a.c", "A1_IMG_a"]
    assert list(write(given[3:], tmp_path / "A2")) == ["A2_IMG_a"]  # the same bytes under two names are one picture
    with pytest.raises(DataError, match=r"'y/a\.png' has a picture that becomes 'A3_IMG_a', as another one did"):
        write(given[2:4], tmp_path / "A3")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith((".", "A"))) == ["A1", "A2"]


PLAIN = [message("user", image(), "?"), message("assistant", "!")]


@pytest.mark.parametrize(
    ("messages", "error", "cause"),
    [
        ([message("system", "Be kind."), *PLAIN], DataError, "has the turns system, user, assistant; MIMIC-IT has"),
        (PLAIN[:1], DataError, "has the turns user; MIMIC-IT has instructions, each with its answer"),
        ([message("user", "?"), message("assistant", image())], DataError, "has a picture in an answer"),
        ([message("user", image(), "\ud800"), PLAIN[1]], DataError, "half a surrogate pair"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(
    messages: list[Message], error: type[MminstructError], cause: str, tmp_path: Path
) -> None:
    picture(tmp_path, "a.png", (0, 0, 0))
    given = Conversation(id="1", messages=messages, media=[Media(path="../a.png")])
    with pytest.raises(error, match=cause):
        formats.write([given], tmp_path / "AB", "mimicit")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_pictures_that_are_missing_or_none(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"text")
    for path, cause in (("../a.png", "is not a JPEG, PNG"), ("../b.png", "does not exist")):
        given = Conversation(id="1", messages=PLAIN, media=[Media(path=path)])
        with pytest.raises(MediaError, match=cause):
            formats.write([given], tmp_path / "AB", "mimicit")
    uri = f"data:image/png;base64,{base64.b64encode(encoded((1, 2, 3))).decode()}"
    formats.write([Conversation(id="1", messages=PLAIN, media=[Media(path=uri)])], tmp_path / "AB", "mimicit")
    (found,) = formats.read(tmp_path / "AB", unpack=tmp_path / "p")
    assert (tmp_path / "p" / found.media[0].path).read_bytes() == encoded((1, 2, 3))
    with pytest.raises(RunError, match="already exists"):
        formats.write([given], tmp_path / "AB", "mimicit")
    with pytest.raises(ConfigError, match="the folder's name begins every id"):
        formats.write([given], tmp_path / "a b", "mimicit")


RED = base64.b64encode(encoded((255, 0, 0))).decode()


@pytest.mark.parametrize(
    ("options", "error", "cause"),
    [
        ({"image_ids": ["LA_IMG_z"]}, DataError, "'LA_INS_1'.* needs the picture 'LA_IMG_z', which is not there"),
        ({"rel_ins_ids": ["LA_INS_9"]}, DataError, "'LA_INS_1'.* needs the instruction 'LA_INS_9', which is not"),
        ({"answer": None}, DataError, "'LA_INS_1' needs a text under 'answer'"),
        ({"image_ids": "LA_IMG_a"}, DataError, "'LA_INS_1' has 'image_ids' that are no list of ids"),
        ({"id": 3}, DataError, "'LA_INS_1' has an 'id' that is no text"),
        ({"parts": [["a"], ["b"]]}, DataError, "'LA_INS_1' has 'parts' whose text is not the instruction"),
        ({"parts": [["a"]]}, DataError, "'LA_INS_1' has 'parts' that do not fit its turns"),
        ({"parts": [[7], [0]]}, DataError, "'LA_INS_1' has 'parts' that do not fit its turns"),
        ({"parts": [[True], [0]]}, DataError, "'LA_INS_1' has 'parts' that do not fit its turns"),
        ({"mminstruct": 3}, DataError, "'LA_INS_1': the key 'mminstruct' holds a int"),
        ({"train": {"LA_INS_1": 3}}, DataError, "LA_train.json, 'LA_INS_1' is no list of instruction ids"),
        ({"train": [1]}, DataError, "LA_train.json:1 is not JSON .expecting an object."),
        ({"images": {"../../a": RED}}, DataError, "the picture's id '../../a' can be no file's name"),
        ({"images": {"LA_IMG_a": 3}}, DataError, "LA.json, 'LA_IMG_a' is a int; a picture is a base64 text"),
        ({"images": {"LA_IMG_a": "%%%"}}, MediaError, "outside one base64 alphabet"),
    ],
)
def test_broken_sets_are_told_with_their_place(
    options: dict[str, Any], error: type[MminstructError], cause: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=cause):
        list(formats.read(published(tmp_path / "LA", **options), "mimicit", unpack=tmp_path / "pictures"))
    assert not [path for path in tmp_path.rglob("*") if path.name == "a.png"]


def test_which_files_are_meant(tmp_path: Path) -> None:
    folder = published(tmp_path / "LA")
    other = folder / "LACONV_instructions.json"
    other.write_text((folder / "LA_instructions.json").read_text())
    with pytest.raises(ConfigError, match=r"several files of instructions \(LACONV_instructions.json, LA_instructions"):
        list(formats.read(folder))
    assert len(list(formats.read(other))) == 4  # the pictures of LA.json, the only ones there are
    (folder / "SD.json").write_text("{}")
    with pytest.raises(
        ConfigError, match=r"several files of pictures \(LA.json, SD.json\); leave one, or call it LACONV"
    ):
        list(formats.read(other))
    with pytest.raises(DataError, match="is no file of instructions"):
        list(formats.read(tmp_path, "mimicit"))


def test_a_large_set_is_not_held_in_memory(tmp_path: Path) -> None:
    import tracemalloc

    folder = tmp_path / "XX"
    folder.mkdir()
    with (folder / "XX_instructions.json").open("w") as stream:
        stream.write('{"data": {')
        for number in range(2_000):
            item = {"instruction": "a" * 5_000, "answer": "b" * 5_000, "rel_ins_ids": []}
            stream.write(f'{"," * (number > 0)}"XX_INS_{number}": {json.dumps(item)}')
        stream.write("}}")
    tracemalloc.start()
    assert sum(1 for _ in formats.read(folder)) == 2_000
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (folder / "XX_instructions.json").stat().st_size > 20e6 and most < 8e6


def test_convert_both_ways(tmp_path: Path) -> None:
    folder = published(tmp_path / "LA")
    arguments = ("data", "convert", folder, "--to", "llava", "--out", tmp_path / "a.json", "--unpack", tmp_path / "p")
    assert call(*arguments)[:2] == (0, f"{tmp_path / 'a.json'}: 4 conversations\n")
    assert call("data", "convert", tmp_path / "a.json", "--to", "mimicit", "--out", tmp_path / "2" / "LA")[0] == 0
    assert without_paths(list(formats.read(tmp_path / "2" / "LA"))) == without_paths(list(formats.read(folder)))
