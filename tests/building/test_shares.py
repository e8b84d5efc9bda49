"""Shares of a build, joined: the bytes of one build on one machine, and nothing is asked or made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mminstruct.building import BuildConfig, run
from mminstruct.building.call_log import CallLog
from mminstruct.building.join import join
from mminstruct.errors import DataError, MediaError
from tests.building.asking_builder import Greys
from tests.building.test_builders import bytes_of
from tests.command import call

SKIP = BuildConfig(on_error="skip", per_shard=4)


def greys() -> Greys:
    """Thirty items, of which every seventh is dropped by a rule and two are broken."""
    return Greys(Greys.Options(count=30, broken=(5, 11)))


def build(out: Path, share: tuple[int, int] | None = None, **options: Any) -> Path:
    run(greys(), out, SKIP, share=share, **options)
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("whole") / "set")


@pytest.fixture(scope="module")
def shares(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("shares")
    return [build(folder / str(number), (number, 4)) for number in range(4)]


def test_joined_shares_are_what_one_machine_builds(whole: Path, shares: list[Path], tmp_path: Path) -> None:
    join([shares[2], shares[0], shares[3], shares[1]], tmp_path / "set")
    assert bytes_of(tmp_path / "set") == bytes_of(whole)
    assert sum(1 for _ in (whole / "images").rglob("*.png")) == 24
    with CallLog(whole / "calls.sqlite") as one, CallLog(tmp_path / "set/calls.sqlite") as other:
        assert list(one.calls()) == list(other.calls())
    # What had failed can be tried again in the joined one too.
    run(Greys(Greys.Options(count=30, broken=(5, 11))), tmp_path / "set", SKIP.model_copy(update={"retry": True}))
    assert bytes_of(tmp_path / "set") == bytes_of(whole)


def test_a_share_has_its_items_only(shares: list[Path]) -> None:
    manifest = json.loads((shares[1] / "manifest.json").read_text())
    assert manifest["builder"]["share"] == [1, 4]
    letters = [json.loads(line)["item"] for line in (shares[1] / "dead-letters.jsonl").read_text().splitlines()]
    assert letters == ["grey/5"]
    assert manifest["builder"]["dropped"] == {"sevens": 1}  # of 1, 5, 9, ..., 29 the 13 alone


def test_a_limit_counts_the_items_of_all_shares(tmp_path: Path) -> None:
    shares = [build(tmp_path / str(number), (number, 3), limit=8) for number in range(3)]
    join(shares, tmp_path / "set")
    assert bytes_of(tmp_path / "set") == bytes_of(build(tmp_path / "whole", limit=8))


def test_joining_that_stopped_goes_on(
    whole: Path, shares: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mminstruct.building import unfinished

    real = unfinished.UnfinishedBuild.add
    monkeypatch.setattr(
        unfinished.UnfinishedBuild,
        "add",
        lambda self, *part: real(self, *part) if len(self.parts) < 3 else (_ for _ in ()).throw(MediaError("stopped")),
    )
    with pytest.raises(MediaError, match="stopped"):
        join(shares, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    monkeypatch.undo()
    join(shares, tmp_path / "set")
    assert bytes_of(tmp_path / "set") == bytes_of(whole)


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("missing", r"not the 4 shares of one build: missing \[2\]"),
        ("twice", r"missing \[2\], too many \['1/4'\]"),
        ("other", "was built with options"),
        ("whole", "is no share of a build"),
        ("unfinished", "is not whole yet"),
        ("changed", "was changed after it was written"),
        ("nothing", "has no build.jsonl"),
    ],
)
def test_what_is_not_all_shares_of_one_build_is_refused(
    fault: str, problem: str, whole: Path, shares: list[Path], tmp_path: Path
) -> None:
    given = list(shares)
    if fault == "missing":
        del given[2]
    if fault == "twice":
        given[2] = shares[1]
    if fault == "other":
        given[2] = tmp_path / "other"
        run(Greys(Greys.Options(count=29)), given[2], SKIP, share=(2, 4))
    if fault == "whole":
        given[2] = whole
    if fault in ("unfinished", "changed"):
        given[2] = shutil.copytree(shares[2], tmp_path / "copy")
        if fault == "unfinished":
            (given[2] / "manifest.json").unlink()
        else:
            with (given[2] / "shard-00000.jsonl").open("a") as stream:
                stream.write("\n")
    if fault == "nothing":
        given[2] = tmp_path / "nothing"
    with pytest.raises(DataError, match=problem):
        join(given, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_the_command(tmp_path: Path) -> None:
    options = ("scenes=5", "kinds=[detail]")
    for number in range(2):
        arguments = ("build", "llava", *options, "--out", tmp_path / f"s{number}", "--shard", f"{number}/2")
        assert call(*arguments)[0] == 0
    code, printed, _ = call("build", "join", tmp_path / "s0", tmp_path / "s1", "--out", tmp_path / "set")
    assert (code, printed) == (0, f"{tmp_path / 'set'}: 5 conversations, 5 images\n")
    for wrong in ("2/2", "a/2", "1", "-1/2"):
        code, _, error = call("build", "llava", "--out", tmp_path / "x", f"--shard={wrong}")
        assert code == 2 and "give I/N with I from 0 to N - 1" in error


def test_a_ray_cluster_builds_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    options = ("llava", "scenes=7", "kinds=[detail, reasoning]")
    assert call("build", *options, "--out", tmp_path / "one")[0] == 0
    code, printed, error = call("build", *options, "--out", tmp_path / "many", "--ray", 3)
    assert (code, printed) == (0, f"{tmp_path / 'many'}: 14 conversations, 14 images\n"), error
    assert bytes_of(tmp_path / "many") == bytes_of(tmp_path / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many", "one"]
