"""`mminstruct data check`: each kind of fault is found where it is; a clean set is clean, and so is a mended copy."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from mminstruct import formats
from mminstruct.building.call_log import CallLog
from mminstruct.building.request import Completion, Request
from mminstruct.conversation import Conversation, Media, Preference, image, message
from mminstruct.conversation import Provenance as Origin
from mminstruct.files import sha256
from mminstruct.inspection.check import CheckConfig, Report, check
from mminstruct.inspection.findings import KINDS
from mminstruct.inspection.looks import NearIndex, look_of
from mminstruct.inspection.repair import repair
from tests.command import call

ANSWER = "It shows number {} among all of the pictures."


def texture(number: int) -> Image.Image:
    """A smooth picture with noise, of its own."""
    chance = np.random.default_rng(number)
    smooth = Image.fromarray(chance.integers(0, 256, (5, 6, 3), np.uint8)).resize((120, 90), Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth).astype(int) + chance.integers(-12, 13, (90, 120, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def one(number: int, **fields: Any) -> Conversation:
    turns = [message("user", image(), "\nWhat is this?"), message("assistant", ANSWER.format(number))]
    given = {"id": f"set/{number}", "messages": turns, "media": [Media(path=f"images/{number}.png")]}
    return Conversation(**(given | fields))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for number in range(30):
        texture(number).save(tmp_path / f"images/{number}.png")
    return tmp_path


def written(folder: Path, conversations: list[Conversation], name: str = "messages") -> Path:
    path = folder / f"set-{name}.jsonl"
    formats.write(conversations, path, name)
    return path


def found(report: Report) -> list[tuple[str, str | None]]:
    return [(finding.code, finding.id) for finding in report.findings.kept]


def test_a_clean_set_is_clean_in_every_format(pictures: Path) -> None:
    given = [one(number) for number in range(30)]
    for name, found_ in formats.FORMATS.items():
        if name not in ("native", "llava", "messages", "openai"):
            continue
        path = pictures / ("set" if found_.is_folder else f"{name}.json")
        formats.write(formats.relocate(given, pictures, path if found_.is_folder else pictures), path, name)
        report = check(path, CheckConfig(workers=2))
        assert report.clean and report.items == 30 and report.media == {"image": 30, "video": 0}, found(report)


def break_media(folder: Path) -> dict[str, str]:
    """Break one file each; the code that it must be found under."""
    images = folder / "images"
    (images / "0.png").unlink()
    (images / "1.png").write_bytes(b"")
    (images / "2.png").write_bytes((images / "2.png").read_bytes()[:-3000])
    texture(3).save(images / "3.jpg")
    shutil.move(images / "3.jpg", images / "3.png")
    (images / "4.png").write_text("<html>404</html>")
    Image.new("RGB", (400, 300)).save(images / "5.png")
    codes = ("media-missing", "media-empty", "media-broken", "media-misnamed", "media-broken", "media-large")
    return {f"set/{number}": code for number, code in enumerate(codes)}


@pytest.mark.parametrize("workers", [1, 3])
def test_broken_media_are_found_whatever_the_number_of_workers(pictures: Path, workers: int) -> None:
    given = [one(number) for number in range(30)]
    again = one(0, id="set/again", messages=[message("user", image(), "?"), message("assistant", "A cat.")])
    path = written(pictures, [*given, again])
    wanted = break_media(pictures)
    report = check(path, CheckConfig(workers=workers, max_pixels=50_000))
    assert found(report) == [(code, id) for id, code in wanted.items()]
    assert report.findings.kept[0].where == f"{path}:1" and report.findings.kept[0].uses == 2
    assert "images/2.png" in report.findings.kept[2].what and "truncated PNG" in report.findings.kept[2].what
    assert report.bad == {0, 1, 2, 4, 5, 30}


FAULTS: dict[str, Callable[[], Conversation]] = {
    "turn-order": lambda: one(0, messages=[message("assistant", "Hello."), message("user", image(), "What?")]),
    "empty-answer": lambda: one(0, messages=[message("user", image(), "What?"), message("assistant", "  \n")]),
    "empty-turn": lambda: one(
        0,
        messages=[
            message("user", image()),
            message("assistant", "A."),
            message("user", ""),
            message("assistant", "B."),
        ],
    ),
    "options": lambda: one(0, options=["cat", "dog"], answers=["bird"]),
    "preference": lambda: one(
        0,
        messages=[message("user", image(), "What?")],
        preference=Preference(chosen=[message("assistant", "A  cat.")], rejected=[message("assistant", "A cat.")]),
    ),
    "facts": lambda: one(0, extra={"facts": {"instances": [{"category": "cat", "bbox": [0.1, 0.2, 1.5, 0.4]}]}}),
    "media-changed": lambda: one(0, media=[Media(path="images/0.png", sha256="0" * 64)]),
    "media-size": lambda: one(0, media=[Media(path="images/0.png", width=90, height=120)]),
}


@pytest.mark.parametrize("code", FAULTS)
def test_a_fault_of_a_record_is_found_and_only_it(code: str, pictures: Path) -> None:
    report = check(written(pictures, [FAULTS[code](), one(1), one(2)]), CheckConfig())
    assert found(report) == [(code, "set/0")]
    assert (report.bad == {0}) == KINDS[code].drops


def test_what_is_well_is_not_found_fault_with(pictures: Path) -> None:
    turns = [message("system", "Be kind."), message("user", image(), "What?"), message("assistant", "Wait.")]
    tools = [*turns, message("tool", "A cat."), message("assistant", "A cat.")]
    facts = {"instances": [{"category": "cat", "bbox": [0, 0.2, 1, 0.4]}], "captions": ["A cat."], "mine": 1}
    choice = one(2, options=["cat", "dog"], messages=[message("user", image(), "?"), message("assistant", "(B) dog")])
    question = one(3, messages=[message("user", image(), "?")], answers=["B"], options=["cat", "dog"])
    given = [one(0, messages=tools), one(1, extra={"facts": facts}), choice, question]
    assert check(written(pictures, given), CheckConfig()).clean


def test_one_bad_item_does_not_hide_the_rest(pictures: Path) -> None:
    good = {"id": "good", "image": "images/0.png", "conversations": [{"from": "human", "value": "<image>\n?"}]}
    good["conversations"] += [{"from": "gpt", "value": "A cat."}]  # type: ignore[operator]
    two = good | {"id": "two", "conversations": [{"from": "human", "value": "<image> <image>"}]}
    bot = good | {"id": "bot", "conversations": [{"from": "robot", "value": "<image>"}]}
    lines = [json.dumps(two), '{"id": ', json.dumps(bot), "[]", json.dumps(good), json.dumps(good)]
    path = pictures / "set.json"
    path.write_text("\n".join(lines))
    report = check(path, CheckConfig(format="llava"))
    assert [(finding.code, finding.where) for finding in report.findings.kept] == [
        ("places", f"{path}:1"),
        ("unreadable", f"{path}:2"),
        ("role", f"{path}:3"),
        ("unreadable", f"{path}:4"),
        ("duplicate-id", f"{path}:6"),
        ("duplicate", f"{path}:6"),
    ]
    assert "2 <image> marks and 1 image" in report.findings.kept[0].what and report.items == 6
    listed = pictures / "list.json"
    listed.write_text("[" + ",\n".join([json.dumps(two), json.dumps(good), '{"id": }']) + "]")
    report = check(listed, CheckConfig())
    assert [finding.code for finding in report.findings.kept] == ["places", "unreadable"]
    assert "list.json:3 is not JSON" in report.findings.kept[1].what and report.items == 2


def test_answers_that_are_cut_off_are_told_by_the_others_of_their_task(pictures: Path) -> None:
    """Short answers and tasks whose answers never end a sentence are left in peace."""
    whole = [one(number % 30, id=f"w/{number}", task="tell") for number in range(60)]
    texts = [
        message("user", image(), "And?"),
        message("assistant", "The picture shows a tall building with a red roof and"),
    ]
    cut = one(7, id="cut", task="tell", messages=texts)
    short = one(
        8, id="short", task="tell", messages=[message("user", image(), "Which?"), message("assistant", "a red bus")]
    )
    lists = [
        one(
            number % 30,
            id=f"l/{number}",
            task="list",
            messages=[texts[0], message("assistant", f"a cat, a dog, {number} tall houses and one tree")],
        )
        for number in range(40)
    ]
    given = [*whole[:30], cut, short, *lists]
    report = check(written(pictures, given), CheckConfig())
    assert found(report) == [("cut-off", "cut")]
    assert "of 31 long answers of the task tell 30 end a sentence" in report.findings.kept[0].what


def test_the_log_says_which_reply_was_cut_off(pictures: Path) -> None:
    keys = []
    with CallLog(pictures / "calls.sqlite") as log:
        for number, finish in enumerate(("stop", "length", "length")):
            request = Request(messages=[message("user", f"{number}?")], prompt="p@1")
            keys.append(request.key("openai", "m"))
            reply = Completion(text=f"So: {ANSWER.format(number)}", finish=finish)
            log.put(keys[-1], "openai", "m", request, reply, paid=True)
    given = [
        one(number, provenance=Origin(builder="b", version="1", call_ids=[key])) for number, key in enumerate(keys[:2])
    ]
    # Its broken reply was asked for again, so what it says is another one's.
    given.append(one(9, provenance=Origin(builder="b", version="1", call_ids=[keys[2], keys[0]])))
    report = check(written(pictures, given), CheckConfig(calls=pictures / "calls.sqlite"))
    assert found(report) == [("cut-off", "set/1")] and keys[1][:12] in report.findings.kept[0].what


def test_a_native_set_is_compared_with_its_manifest(pictures: Path) -> None:
    given = [one(number) for number in range(6)]
    formats.native.write(given, pictures / "set", per_shard=2)  # type: ignore[attr-defined]
    shutil.copytree(pictures / "images", pictures / "set/images")
    shard = pictures / "set/shard-00001.jsonl"
    shard.write_text(shard.read_text().splitlines()[0].replace("What", "Who") + "\nno json\n")
    (pictures / "set/shard-00002.jsonl").unlink()
    report = check(pictures / "set", CheckConfig())
    assert [(finding.code, Path(finding.where).name) for finding in report.findings.kept] == [
        ("shard-changed", "shard-00001.jsonl"),
        ("shard-missing", "shard-00002.jsonl"),
        ("unreadable", "shard-00001.jsonl:2"),
    ]


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


def test_copies_of_a_picture_are_near_it_and_no_other_is() -> None:
    """Recall of 1.0 on each of the changes, without a false one among 150 pictures; a crop is not promised."""
    pictures = [texture(number) for number in range(150)]
    index = NearIndex()
    for number, picture in enumerate(pictures):
        index.add(look_of(picture), str(number))
    changes: list[Callable[[Image.Image], Image.Image]] = [
        lambda picture: jpeg(picture, 30),
        lambda picture: picture.resize((60, 45)),
        lambda picture: picture.resize((224, 224)),
        lambda picture: ImageEnhance.Brightness(picture).enhance(1.1),
        lambda picture: jpeg(picture.resize((80, 60)), 50),
    ]
    for change in changes:
        for number, picture in enumerate(pictures[:60]):
            assert index.find(look_of(change(picture))) == [str(number)]
    # By going through all of them: the bands leave none out.
    looks = [look_of(picture) for picture in pictures]
    chance = random.Random(0)
    for look in looks[:20]:
        flipped = look.bits
        for bit in chance.sample(range(64), 8):
            flipped ^= 1 << bit
        wanted = [str(n) for n, one in enumerate(looks) if one.near(type(look)(flipped, look.grey), 8)]
        assert index.find(type(look)(flipped, look.grey)) == wanted and wanted


def test_pictures_of_another_set_are_told(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "test/images").mkdir(parents=True)
    shutil.copy(pictures / "images/3.png", tmp_path / "test/images/0.png")
    jpeg(texture(5), 60).resize((90, 70)).save(tmp_path / "test/images/1.png")
    texture(99).save(tmp_path / "test/images/2.png")
    other = written(tmp_path / "test", [one(number) for number in range(3)])
    path = written(pictures, [one(number) for number in range(30)])
    report = check(path, CheckConfig(against=(other,), workers=2))
    assert found(report) == [("leak", "set/3"), ("leak-near", "set/5")]
    assert "images/3.png has the bytes of" in report.findings.kept[0].what
    assert str(other) in report.findings.kept[1].what and "images/1.png" in report.findings.kept[1].what


def test_the_mended_copy_is_clean_and_says_what_was_done(pictures: Path) -> None:
    good = [one(number) for number in range(30)]
    size = one(20, id="size", media=[Media(path="images/20.png", width=1, height=1)])
    size.messages[1].content[0].text = "It has another size than its record says."  # type: ignore[union-attr]
    facts = FAULTS["facts"]().model_copy(update={"id": "facts", "media": [Media(path="images/21.png")]})
    path = written(pictures, [*good, size, facts])
    with path.open("a") as stream:
        twice = good[22].model_dump(mode="json") | {
            "messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "He."}],
            "media": None,
        }
        stream.write(json.dumps({"id": twice["id"], "messages": twice["messages"]}) + "\n" + "{broken\n")
    break_media(pictures)
    out = pictures / "mended"
    code, printed, _ = call("data", "check", path, "--max-pixels", 50_000, "--repair", out, "--json")
    told = json.loads(printed)
    assert code == 1 and told["counts"]["media-broken"] == 2
    assert told["repaired"] == json.loads((out / "repair.json").read_text())
    assert told["repaired"]["kept"] == 28 and told["repaired"]["left_out"] == 6
    assert told["repaired"]["mended"] == {"duplicate-id": 1, "facts": 1, "media-misnamed": 1, "media-size": 1}
    assert call("data", "check", out)[:2] == (0, f"{out}: 28 conversations, 25 images\nnothing found\n")
    mended = {conversation.id: conversation for conversation in formats.read(out)}
    assert "set/22#2" in mended and mended["facts"].extra is None and mended["size"].media[0].width == 120
    (renamed,) = mended["set/3"].media
    assert renamed.path.startswith("images/renamed/") and renamed.path.endswith("/3.jpeg")
    assert sha256(out / renamed.path) == sha256(pictures / "images/3.png")


def test_pictures_within_files_are_checked_and_mended(tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "0.tar", "w") as shard:
        for number in range(3):
            stream = io.BytesIO()
            texture(number).save(stream, "PNG")
            data = stream.getvalue() if number != 1 else stream.getvalue()[:500]
            for name, content in ((f"{number}.png", data), (f"{number}.txt", f"Picture {number}.".encode())):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                shard.addfile(entry, io.BytesIO(content))
    code, printed, _ = call("data", "check", tmp_path / "0.tar", "--repair", tmp_path / "out")
    assert code == 1 and "sample '1' (0/1): media-broken: images/" in printed.replace("\n", "")
    assert [one.id for one in formats.read(tmp_path / "out")] == ["0/0", "0/2"]
    assert call("data", "check", tmp_path / "out")[0] == 0


def test_what_cannot_be_read_at_all_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    for path in (tmp_path / "a.json", tmp_path / "none.json", tmp_path):
        code, printed, error = call("data", "check", path)
        assert (code, printed) == (2, "") and error.startswith("error: ") and error.count("\n") == 1
    (tmp_path / "b.json").write_text('{"id": "1", "messages": [{"role": "user", "content": "?"}]}')
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").touch()
    code, _, error = call("data", "check", tmp_path / "b.json", "--repair", tmp_path / "full")
    assert code == 2 and "already exists" in error


def test_nothing_is_left_to_write(pictures: Path) -> None:
    path = written(pictures, [FAULTS["empty-answer"]()])
    report = check(path, CheckConfig())
    with pytest.raises(Exception, match="there are no conversations to write"):
        repair(path, pictures / "out", CheckConfig(), report)
    assert not (pictures / "out").exists()
