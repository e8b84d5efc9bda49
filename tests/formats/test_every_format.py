"""What holds for every format of the table that has a writer, walked so that a new one is held to it the day it comes.

A format may refuse a conversation that it cannot hold, with a reason; what it takes comes back, and is written again to
the same bytes. That a format loses nothing at all is for the test of its own to say.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from PIL import Image

from mminstruct import formats
from mminstruct.conversation import Conversation, Media, Preference, VideoPart, image, message
from mminstruct.errors import DataError, MediaError
from mminstruct.files import sha256

WITHIN = {"mavis", "mimicit"}  # which take the pictures themselves into their files
TAKE = {*WITHIN, "minigpt4"}  # or into their folder
WRITABLE = [name for name, found in formats.FORMATS.items() if found.write]
SUFFIX = {"mavis": ".parquet"}

Make = Callable[..., list[Conversation]]


def pair(name: str, conversation: Conversation) -> Conversation:
    """The last answer as the better one."""
    *turns, last = conversation.messages
    preference = Preference(chosen=[last], rejected=[message("assistant", "Worse.")])
    return conversation.model_copy(update={"id": name, "messages": turns, "preference": preference})


def plain(root: Path) -> list[Conversation]:
    """Two pictures that exist, in the shape that nearly every format is made for, and as a pair."""
    found = []
    for number in range(2):
        path = root / f"images/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (90 * number, 30, 60)).save(path)
        turns = [message("user", image(), "\nWhat is this?"), message("assistant", f"Colour {number}.")]
        media = [Media(path=f"images/{number}.png", width=8, height=6)]
        found.append(Conversation(id=f"plain/{number}", messages=turns, media=media, task="plain"))
    return [*found, *(pair(f"{one.id}/pair", one) for one in found)]


def problems(root: Path) -> list[Conversation]:
    """Captions and problems, in English and Chinese, lettered and free."""
    found = []
    for number, one in enumerate(plain(root)[:2]):
        found.append(one.model_copy(update={"id": f"{number}/caption", "task": "mavis+caption"}))
        for variant in ("text-dominant", "vision-dominant"):
            extra = {"problem": str(number), "language": "zh"} if number else {"problem": str(number), "step": 3}
            choices = {"options": ["a", "Б"], "answers": ["B"]} if number else {"answers": ["猫"]}
            problem = {"id": f"{number}/{variant}", "task": f"mavis+{variant}", "extra": extra}
            found.append(one.model_copy(update=problem | choices))
    return found


# Builders' own shapes, for formats that hold nothing else: name of the format to conversations that it must take.
OWN: dict[str, Callable[[Path], list[Conversation]]] = {"mavis": problems}


def hard(root: Path) -> dict[str, Conversation]:
    """The cases that formats trip over."""
    media = []
    for number in range(10):
        path = root / f"images/h{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 5), (20 * number, 0, 0)).save(path)
        media.append(Media(path=f"images/h{number}.png"))
    named = root / "images/ü 猫/Ж.png"
    named.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / "images/h0.png", named)
    ten = [message("user", *(image(number) for number in range(10)), "Which is red?"), message("assistant", "None.")]
    answer = [message("user", "Draw it."), message("assistant", "Here: ", image(0), " and ", image(1), ".")]
    clip = Media(path="videos/a.mp4", kind="video")
    both = [message("user", VideoPart(index=0), image(1), "Which is older?"), message("assistant", "The clip.")]
    names = [message("user", image(0), "Что это? 猫?"), message("assistant", "Это кошка, 猫.")]
    return {
        "ten images in a turn": Conversation(id="ten", messages=ten, media=media),
        "images in an answer": Conversation(id="answer", messages=answer, media=media[:2]),
        "a video and an image": Conversation(id="both", messages=both, media=[clip, media[0]]),
        "other names": Conversation(id="имя/猫", messages=names, media=[Media(path="images/ü 猫/Ж.png")]),
    }


def place(folder: Path, name: str) -> Path:
    return folder / ("set" if formats.FORMATS[name].is_folder else f"set{SUFFIX.get(name, '.json')}")


def written(given: list[Conversation], root: Path, path: Path, name: str) -> int:
    """Those with pictures below `root` as a data set; its pictures are looked for where it is to be."""
    if name in TAKE:
        own = path if formats.FORMATS[name].is_folder else path.parent
        given = list(formats.relocate(given, root, own))
    return formats.write(given, path, name)


def read(path: Path, name: str, folder: Path) -> list[Conversation]:
    """All of a data set; pictures that stand within it go to the folder."""
    options = {"language": "all"} if name == "mavis" else {}
    return list(formats.read(path, name, unpack=folder if name in WITHIN else None, **options))


def contents(path: Path) -> dict[str, str]:
    if path.is_file():
        return {"": sha256(path)}
    return {str(file.relative_to(path)): sha256(file) for file in sorted(path.rglob("*")) if file.is_file()}


def taken(name: str, given: Iterable[Conversation], root: Path, folder: Path) -> list[Conversation]:
    """Those that the format takes; each refusal must say what is the matter, and where."""
    found = []
    for number, one in enumerate(given):
        path = place(folder / f"one{number}", name)
        path.parent.mkdir(parents=True)
        try:
            written([one], root, path, name)
        except (DataError, MediaError) as error:
            assert one.id in str(error) and len(str(error)) > len(one.id) + 20, error
            assert not path.exists()
            continue
        found.append(one)
    return found


def texts(conversation: Conversation) -> list[str]:
    turns = [*conversation.messages]
    if conversation.preference is not None:
        turns += [*conversation.preference.chosen, *conversation.preference.rejected]
    return [one.text.strip() for one in turns if one.role in ("user", "assistant")]


@pytest.mark.parametrize("name", WRITABLE)
def test_what_is_written_is_read_and_written_to_the_same_bytes(
    name: str, tmp_path: Path, random_conversations: Make
) -> None:
    given = [*OWN.get(name, plain)(tmp_path), *random_conversations(11, count=40)]
    kept = taken(name, given, tmp_path, tmp_path / "each")
    assert kept, f"{name} takes no conversation of this test; give it some of its own kind in OWN"
    first, second = place(tmp_path / "a", name), place(tmp_path / "b", name)
    first.parent.mkdir()
    second.parent.mkdir()
    if formats.FORMATS[name].is_folder is False:
        for folder in ("a", "b"):
            shutil.copytree(tmp_path / "images", tmp_path / folder / "images", dirs_exist_ok=True)
    assert written(kept, tmp_path, first, name) == len(kept)
    found = read(first, name, tmp_path / "unpacked")
    assert [texts(one) for one in found] == [texts(one) for one in kept]
    assert [len(one.media) for one in found] == [len(one.media) for one in kept]
    written(found, tmp_path / "unpacked" if name in WITHIN else first, second, name)
    assert contents(first) == contents(second)


@pytest.mark.parametrize("case", ["ten images in a turn", "images in an answer", "a video and an image", "other names"])
@pytest.mark.parametrize("name", WRITABLE)
def test_hard_cases_survive_or_are_refused_with_a_reason(name: str, case: str, tmp_path: Path) -> None:
    given = hard(tmp_path)[case]
    for number, one in enumerate((given, pair(given.id, given))):
        for kept in taken(name, [one], tmp_path, tmp_path / f"each{number}"):
            path = place(tmp_path / f"each{number}/one0", name)
            unpacked = tmp_path / f"unpacked{number}" if name in WITHIN else path
            (found,) = read(path, name, unpacked)
            assert texts(found) == texts(kept)
            shown, wanted = (
                [[one.media[part.index].path for part in turn.content if part.type != "text"] for turn in one.messages]
                for one in (found, kept)
            )
            if name in TAKE:
                shown = [[sha256(unpacked / path) for path in turn] for turn in shown]
                wanted = [[sha256(tmp_path / path) for path in turn] for turn in wanted]
            assert [[Path(path).name for path in turn] for turn in shown] == [
                [Path(path).name for path in turn] for turn in wanted
            ]
            if case == "other names":
                assert found.id == kept.id
                assert name in TAKE or found.media[0].path.endswith("images/ü 猫/Ж.png")


def test_formats_of_items_skip_a_broken_one_and_give_the_rest(tmp_path: Path) -> None:
    given = plain(tmp_path)
    for name in WRITABLE:
        each, suffix = formats.FORMATS[name].each, ".json" if name.startswith("llava") else ".jsonl"
        if each is None or name in TAKE or name == "native":
            continue
        kept = given[2:] if "preferences" in name else given[:2]
        path = tmp_path / f"{name}{suffix}"
        formats.write(kept, path, name)
        lines = path.read_text().splitlines()
        broken = '{"id": 3}' if suffix == ".jsonl" else '{"id": 3},'
        path.write_text("\n".join([*lines[:1], broken, *lines[1:]]))
        outcomes = []
        for _, make in each(path):
            try:
                outcomes.append(make().id)
            except DataError:
                outcomes.append("broken")
        assert sorted(outcomes) == sorted(["broken", *(one.id for one in kept)]), name
