"""Files of a build: what comes again is looked at once, and what has changed meanwhile is noticed."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from mminstruct.building import Job, job, load_builder
from mminstruct.building.job import Known
from mminstruct.errors import DataError, MediaError
from mminstruct.files import bytes_sha256, sha256_once


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The pictures that were opened, in their order."""
    found: list[Path] = []
    real = job.read_image
    monkeypatch.setattr(job, "read_image", lambda path: (found.append(path), real(path))[1])
    return found


def of(folder: Path, known: Known, item: str = "0") -> Job:
    return Job(load_builder("llava", []), item, folder, None, known)


def picture(path: Path, color: str, side: int = 8) -> Path:
    Image.new("RGB", (side, side), color).save(path)
    return path


def test_a_picture_that_comes_again_is_opened_once(tmp_path: Path, opened: list[Path]) -> None:
    source, known = picture(tmp_path / "a.png", "red"), Known()
    first = of(tmp_path / "set", known).copy(source, "a.png")
    again = of(tmp_path / "set", known, "1")
    assert again.copy(source, "a.png") == first and again.files == ["images/a.png"]
    assert opened == [source] and (first.width, first.height) == (8, 8)
    assert first.sha256 == bytes_sha256((tmp_path / "set/images/a.png").read_bytes()) == sha256_once(source)
    other = of(tmp_path / "set", known, "2").copy(source, "b/a.png")  # another place of the same picture
    assert other.sha256 == first.sha256 and (tmp_path / "set/images/b/a.png").read_bytes() == source.read_bytes()


def test_a_picture_that_has_changed_is_opened_again(tmp_path: Path, opened: list[Path]) -> None:
    source, known = picture(tmp_path / "a.png", "red"), Known()
    before = of(tmp_path / "set", known).copy(source, "a.png")
    hashed = sha256_once(source)
    picture(tmp_path / "new.png", "blue", side=9).replace(source)
    with pytest.raises(DataError, match=r"two pictures want the name images/a\.png; the builder llava must tell them"):
        of(tmp_path / "set", known, "1").copy(source, "a.png")
    after = of(tmp_path / "set", known, "2").copy(source, "c.png")
    assert after.width == 9 and after.sha256 == sha256_once(source) != hashed == before.sha256
    source.write_bytes(b"no picture")
    with pytest.raises(MediaError):
        of(tmp_path / "set", known, "3").copy(source, "d.png")
    assert len(opened) == 4


def test_what_is_known_is_bounded_and_found_out_again(
    tmp_path: Path, opened: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "_MOST_KNOWN", 2)
    sources, known = [picture(tmp_path / f"{color}.png", color) for color in ("red", "green", "blue", "gold")], Known()
    taken = [of(tmp_path / "set", known, source.stem).copy(source, source.name) for source in sources]
    assert len(known.files) <= 2 and len(known.sources) <= 2
    assert of(tmp_path / "set", known, "again").copy(sources[0], "red.png") == taken[0]
    with pytest.raises(DataError, match="two pictures want the name"):
        of(tmp_path / "set", known, "wrong").copy(sources[1], "red.png")


def test_no_name_leads_out_of_the_build(tmp_path: Path) -> None:
    source = picture(tmp_path / "a.png", "red")
    with pytest.raises(DataError, match=r"images/\.\./a\.png would lie outside of the data set"):
        of(tmp_path / "set", Known()).copy(source, "../a.png")
    assert not (tmp_path / "set/a.png").exists()


def test_threads_share_what_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while another thread forgets it."""
    monkeypatch.setattr(job, "_MOST_KNOWN", 1)
    sources, known = [picture(tmp_path / f"{number}.png", "red", 8 + number) for number in range(40)], Known()

    def take(number: int) -> tuple[str, int | None]:
        source = sources[number % len(sources)]
        media = of(tmp_path / "set", known, str(number)).copy(source, source.name)
        return media.path, media.width

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(take, range(800)))
    finally:
        sys.setswitchinterval(interval)
    assert set(found) == {(f"images/{number}.png", 8 + number) for number in range(40)}
