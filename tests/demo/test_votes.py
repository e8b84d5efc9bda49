"""The file of votes: nothing lost, nothing halved, what it adds up to, and the pairs that are made of it."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mminstruct import formats
from mminstruct.conversation import Conversation
from mminstruct.demo import votes
from mminstruct.demo.vote_pairs import pair, write_pairs
from mminstruct.demo.votes import Contestant, Side, Tally, Verdict, Vote, VoteFile, label, read_votes
from mminstruct.errors import DataError, RunError
from mminstruct.media import Video, open_image, open_video
from mminstruct.serving.chat import Framing, Turn, conversation_of
from mminstruct.serving.settings import GenerationSettings

MINE, YOURS = (
    Contestant(model="a/mine", settings=GenerationSettings()),
    Contestant(model="b/yours", settings=GenerationSettings(temperature=0.5)),
)


def vote(
    file: VoteFile,
    verdict: Verdict,
    answers: tuple[list[str], list[str]] = (["red"], ["blue"]),
    name: str = "1",
    left: Contestant = MINE,
    right: Contestant = YOURS,
    medium: Any = None,
) -> Vote:
    """A vote on a chat with a medium in its first question."""
    sides = []
    for contestant, said in zip((left, right), answers, strict=True):
        media = [[medium] if medium is not None and number == 0 else [] for number in range(len(said))]
        turns = [Turn(f"Question {number}?", media[number], answer) for number, answer in enumerate(said)]
        kept = file.keep(conversation_of(turns)[1])
        record = votes.conversation(turns, Framing(system=contestant.system), f"votes/{name}", kept)
        sides.append(Side(**dict(contestant), conversation=record))
    return Vote(
        id=name,
        time=votes.now(),
        verdict=verdict,
        question=len(answers[0]),
        blind=False,
        left=sides[0],
        right=sides[1],
    )


@pytest.fixture
def file(tmp_path: Path) -> VoteFile:
    return VoteFile(tmp_path / "votes.jsonl")


def test_a_vote_comes_back_as_it_was_given_with_its_picture(file: VoteFile, picture: Path) -> None:
    given = vote(file, "left", medium=open_image(picture))
    file.add(given)
    (found,) = read_votes(file.path)
    assert found == given and found.left.settings == GenerationSettings()
    (medium,) = found.left.conversation.media
    kept = file.path.parent / medium.path
    assert kept.name == f"{medium.sha256}.png" and kept.parent.name == "votes-media"
    assert np.array_equal(np.asarray(Image.open(kept)), np.asarray(open_image(picture)))
    assert found.right.conversation.messages[-1].text == "blue"


def test_the_same_picture_is_kept_once_and_without_what_a_camera_adds(file: VoteFile, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    tags = Image.Exif()
    tags[0x010F] = "A camera of somebody"
    Image.new("RGB", (40, 30), "teal").save(photo, exif=tags)
    for name in ("1", "2"):
        file.add(vote(file, "tie", name=name, medium=open_image(photo)))
    (kept,) = file.media.iterdir()
    assert b"camera" not in kept.read_bytes()


def test_a_videos_frames_are_kept_as_a_clip(file: VoteFile) -> None:
    frames = tuple(Image.new("RGB", (41, 30), (80 * number, 0, 200)) for number in range(3))
    given = vote(file, "right", medium=Video(frames, (0.0, 2.5, 5.0)))
    file.add(given)
    (medium,) = given.left.conversation.media
    assert medium.kind == "video" and medium.timestamps == [0.0, 2.5, 5.0]
    clip = open_video(file.path.parent / medium.path)
    assert len(clip.frames) == 3 and clip.size == (40, 30)
    seen = [np.asarray(frame).mean(axis=(0, 1)) for frame in clip.frames]
    assert all(abs(color[0] - 80 * number) < 8 for number, color in enumerate(seen))


def test_votes_of_several_processes_at_once_are_all_there(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    started = [multiprocessing.get_context("fork").Process(target=_add_many, args=(path, n)) for n in range(4)]
    for process in started:
        process.start()
    for process in started:
        process.join()
        assert process.exitcode == 0
    assert sorted(one.id for one in read_votes(path)) == sorted(f"{n}-{m}" for n in range(4) for m in range(25))
    assert VoteFile(path).tally(MINE, YOURS).wins == 100


def _add_many(path: Path, number: int) -> None:
    file = VoteFile(path)
    for count in range(25):
        file.add(vote(file, "left", name=f"{number}-{count}"))


def test_a_process_that_is_killed_leaves_whole_lines_and_every_vote_that_it_confirmed(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    code = (
        "import sys; from pathlib import Path; from tests.demo.test_votes import vote, VoteFile\n"
        f"file = VoteFile(Path({str(path)!r})); n = 0\n"
        "while True:\n"
        "    file.add(vote(file, 'left', name=str(n))); print(n, flush=True); n += 1\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        confirmed = 1 + len(process.stdout.readlines())
    found = [one.id for one in read_votes(path)]
    assert found == [str(number) for number in range(len(found))]
    assert confirmed <= len(found) <= confirmed + 1


def test_half_a_line_of_a_crash_is_cut_off_and_the_next_vote_is_whole(
    file: VoteFile, caplog: pytest.LogCaptureFixture
) -> None:
    file.add(vote(file, "left", name="1"))
    whole = file.path.read_bytes()
    for half in (whole[:-1][: len(whole) // 2], b"{", b'{"id": "'):
        file.path.write_bytes(whole + half)
        again = VoteFile(file.path)
        assert file.path.read_bytes() == whole and "half a line" in caplog.text
        assert again.tally(MINE, YOURS) == Tally(wins=1)
    file.path.write_bytes(whole[:-1])  # whole, but for the line break
    again = VoteFile(file.path)
    again.add(vote(again, "right", name="2"))
    assert [one.id for one in read_votes(file.path)] == ["1", "2"]


@pytest.mark.parametrize("content", ["{}", "notes of mine", '{"id": "x"}\n', '{"id": "x"}', "[1, 2]\n"])
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=r"notes.jsonl:1 is no vote .*; give another file"):
        VoteFile(path)
    assert path.read_text() == content


def test_a_full_disk_keeps_no_part_of_a_vote(file: VoteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.add(vote(file, "left", name="1"))
    before = file.path.read_bytes()
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        write(descriptor, data[:50])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(RunError, match=r"the vote was not kept .No space left on device.; make room"):
            file.add(vote(file, "left", name="2"))
    assert file.path.read_bytes() == before
    file.add(vote(file, "right", name="3"))
    assert [one.id for one in read_votes(file.path)] == ["1", "3"]


def test_a_place_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot be written .*; give another file for the votes"):
        VoteFile(tmp_path / "file" / "votes.jsonl")


def test_the_tally_counts_whichever_side_somebody_stood_on(file: VoteFile) -> None:
    for number, (verdict, swapped) in enumerate([("left", False), ("right", True), ("tie", True), ("left", True)]):
        sides = {"left": YOURS, "right": MINE} if swapped else {}
        file.add(vote(file, verdict, name=str(number), **sides))
    file.add(vote(file, "both bad", name="bad"))
    assert file.tally(MINE, YOURS) == Tally(2, 1, 1, 1)
    assert file.tally(YOURS, MINE) == Tally(1, 2, 1, 1)
    assert file.tally(MINE, MINE) == Tally()
    assert VoteFile(file.path).summary() == [(MINE, YOURS, Tally(2, 1, 1, 1))]
    assert Tally(2, 1, 1, 1).rate == 0.6
    assert "2 won, 1 lost, 1 tied, 1 both bad; wins 60% (95 % interval 23% to 88%" in votes.told(Tally(2, 1, 1, 1))


def test_one_model_with_two_settings_is_two_contestants(file: VoteFile) -> None:
    warm = Contestant(model="a/mine", settings=GenerationSettings(temperature=0.7), system="Be brief.")
    file.add(vote(file, "left", left=warm, right=MINE))
    assert file.tally(warm, MINE) == Tally(wins=1)
    assert label(warm, MINE) == "a/mine (temperature 0.7, system text Be brief.)"
    assert label(MINE, warm) == "a/mine (temperature 0.0, system text none)"
    assert label(MINE, YOURS) == "a/mine"


def test_a_decided_vote_is_a_preference_pair(file: VoteFile, picture: Path) -> None:
    given = vote(file, "right", medium=open_image(picture))
    found = pair(given)
    assert found is not None and found.preference is not None
    assert [one.text for one in found.messages] == ["Question 0?"]
    assert [one.text for one in found.preference.chosen] == ["blue"]
    assert [one.text for one in found.preference.rejected] == ["red"]
    assert len(found.media) == 1 and found.extra is not None
    assert found.extra["vote"]["chosen"] == {"model": "b/yours", "settings": {"temperature": 0.5}}


def test_in_a_longer_chat_a_continuation_holds_all_turns_since_the_answers_differ(file: VoteFile) -> None:
    given = vote(file, "left", (["same", "one", "two"], ["same", "other", "third"]))
    found = pair(given)
    assert found is not None and found.preference is not None
    assert [one.text for one in found.messages] == ["Question 0?", "same", "Question 1?"]
    assert [one.text for one in found.preference.chosen] == ["one", "Question 2?", "two"]
    assert [one.text for one in found.preference.rejected] == ["other", "Question 2?", "third"]


def test_ties_and_equal_answers_are_no_pairs(file: VoteFile) -> None:
    assert pair(vote(file, "tie")) is None and pair(vote(file, "both bad")) is None
    assert pair(vote(file, "left", (["same"], ["same"]))) is None


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    done = [sys.executable, *(str(one) for one in arguments)]
    return subprocess.run(done, capture_output=True, text=True, check=False, timeout=120)


def test_pairs_are_a_data_set_that_the_data_commands_take(file: VoteFile, picture: Path, tmp_path: Path) -> None:
    for number, verdict in enumerate(("left", "right", "tie", "both bad")):
        medium = open_image(picture) if number < 2 else None
        file.add(vote(file, verdict, name=str(number), medium=medium))
    out = tmp_path / "pairs"
    program = Path(votes.__file__)
    done = command(program, "pairs", file.path, "--out", out)
    assert done.stdout == f"2 pairs in {out}; left out: 2 undecided, 0 without a choice\n", done.stderr
    checked = command("-m", "mminstruct", "data", "check", out)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    written = tmp_path / "pairs.jsonl"
    converted = command("-m", "mminstruct", "data", "convert", out, "--to", "preferences", "--out", written)
    assert converted.returncode == 0, converted.stderr
    first = json.loads(written.read_text().splitlines()[0])
    assert first["chosen"][0]["content"][0]["text"] == "red" and (written.parent / first["images"][0]).is_file()
    kept: list[Conversation] = list(formats.read(out))
    assert [one.preference is not None for one in kept] == [True, True]
    told = command(program, "summary", file.path).stdout
    assert told.startswith("a/mine against b/yours: 1 won, 1 lost, 1 tied, 1 both bad; wins 50%")
    again = command(program, "pairs", file.path, "--out", out)
    assert again.returncode == 2 and "already exists" in again.stderr and "Traceback" not in again.stderr


def test_a_picture_that_was_changed_is_told(file: VoteFile, picture: Path, tmp_path: Path) -> None:
    file.add(vote(file, "left", medium=open_image(picture)))
    (kept,) = file.media.iterdir()
    kept.write_bytes(picture.read_bytes() + b"x")
    with pytest.raises(DataError, match="is not what was voted on"):
        write_pairs(file.path, tmp_path / "pairs")
    kept.unlink()
    with pytest.raises(DataError, match="it belongs to the votes, put it back"):
        write_pairs(file.path, tmp_path / "pairs")
    assert not (tmp_path / "pairs").exists()
