"""`extract`: whole or not at all, nothing outside of the folder, and no more than the limits, whatever headers say."""

from __future__ import annotations

import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mminstruct.errors import DataError, RunError
from mminstruct.media.archive import ArchiveLimits, extract

FILES = {"a.txt": b"first", "folder/b.bin": bytes(range(256)) * 300, "folder/deeper/c": b""}


def zipped(path: Path, files: dict[str, bytes], **options: int) -> Path:
    with zipfile.ZipFile(path, "w", compression=options.get("compression", zipfile.ZIP_DEFLATED)) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, archive.compression)
    return path


def tarred(path: Path, files: dict[str, bytes], mode: str = "w", **options: object) -> Path:
    with tarfile.open(path, mode, **options) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def tar_of(path: Path, member: tarfile.TarInfo, mode: str = "w") -> Path:
    """A good file, then this member."""
    with tarfile.open(path, mode) as archive:
        good = tarfile.TarInfo("good.txt")
        good.size = 4
        archive.addfile(good, io.BytesIO(b"good"))
        archive.addfile(member)
    return path


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A folder in which nothing but `out` may appear; archives lie elsewhere."""
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "kept.txt").write_text("kept")
    return tmp_path / "room"


def refused(archive: Path, room: Path, limits: ArchiveLimits | None = None) -> str:
    everything = {path: path.stat().st_mtime_ns for path in room.parent.rglob("*") if path != room}
    with pytest.raises(DataError) as caught:
        extract(archive, room / "out", limits or ArchiveLimits())
    after = {path: path.stat().st_mtime_ns for path in room.parent.rglob("*") if path != room}
    assert everything == after, "something was written"
    message = str(caught.value)
    assert message.startswith(str(archive)) and "\n" not in message and ";" in message
    return message


@pytest.mark.parametrize(
    "make",
    [
        lambda path: zipped(path / "a.zip", FILES),
        lambda path: zipped(path / "a.zip", FILES, compression=zipfile.ZIP_STORED),
        lambda path: zipped(path / "a.zip", FILES, compression=zipfile.ZIP_LZMA),
        lambda path: zipped(path / "a.zip", FILES, compression=zipfile.ZIP_BZIP2),
        lambda path: tarred(path / "a.tar", FILES),
        lambda path: tarred(path / "a.dat", FILES, "w:gz"),
        lambda path: tarred(path / "a.tar.bz2", FILES, "w:bz2"),
        lambda path: tarred(path / "a.tar.xz", FILES, "w:xz"),
        lambda path: tarred(path / "a.tar", {f"./{name}": data for name, data in FILES.items()}),
        lambda path: tarred(path / "a.tar", FILES, format=tarfile.PAX_FORMAT, pax_headers={"comment": "x" * 9000}),
    ],
)
def test_each_kind_gives_its_files(make: Callable[[Path], Path], tmp_path: Path, room: Path) -> None:
    written = extract(make(tmp_path), room / "out")
    assert written == [room / "out" / name for name in FILES]
    assert {str(path.relative_to(room / "out")): path.read_bytes() for path in written} == FILES
    assert not list(room.glob(".*"))


def test_folders_of_their_own_rights_and_times_are_not_taken_over(tmp_path: Path, room: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("folder", tarfile.DIRTYPE), ("folder", tarfile.DIRTYPE), ("folder/a", tarfile.REGTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.mtime = kind, 0o6777, 12345
            archive.addfile(member, io.BytesIO())
    (file,) = extract(tmp_path / "a.tar", room / "out")
    found = file.stat()
    assert not found.st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IXUSR) and found.st_mtime > 12345


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path, room: Path) -> None:
    archive = zipped(tmp_path / "a.zip", FILES)
    with pytest.raises(RunError, match="already exists"):
        extract(archive, room)
    assert [path.name for path in room.iterdir()] == ["kept.txt"]


NAMES = [
    "../out.txt",
    "a/../../out.txt",
    "..",
    "folder/..",
    "/etc/out.txt",
    "//host/out.txt",
    "C:\\out.txt",
    "C:out.txt",
    "..\\out.txt",
    "a\\b",
    "a\nb",
    "x" * 256,
    "/".join("x" * 40),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_elsewhere(name: str, kind: str, tmp_path: Path, room: Path) -> None:
    make = zipped if kind == "zip" else tarred
    message = refused(make(tmp_path / f"a.{kind}", {"good.txt": b"good", name: b"bad"}), room)
    assert "whose name" in message


def test_a_name_that_ends_at_a_zero_for_one_reader_only(tmp_path: Path, room: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"good_..txt": b"x"})
    path.write_bytes(path.read_bytes().replace(b"good_..txt", b"good\0..txt"))
    assert "whose name" in refused(path, room)


@pytest.mark.parametrize(
    "files",
    [
        {"a/B.txt": b"1", "A/b.TXT": b"2"},
        {"é.txt": b"1", "e\u0301.txt": b"2"},
        {"a": b"1", "a/b": b"2"},
        {"a/b": b"1", "A": b"2"},
        {"a": b"1", "./a": b"2"},
    ],
)
def test_names_that_some_system_takes_for_one(files: dict[str, bytes], tmp_path: Path, room: Path) -> None:
    for path in (zipped(tmp_path / "a.zip", files), tarred(tmp_path / "a.tar", files)):
        assert "twice" in refused(path, room) or "a file and a folder" in refused(path, room)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, b"Z"]
)
@pytest.mark.parametrize("target", ["good.txt", "/etc/passwd", "../kept.txt"])
def test_links_and_devices(kind: bytes, target: str, tmp_path: Path, room: Path) -> None:
    member = tarfile.TarInfo("link")
    member.type, member.linkname = kind, target
    path = tar_of(tmp_path / "a.tar", member)
    assert "that is a link, a device" in refused(path, room)


def test_a_link_in_a_zip(tmp_path: Path, room: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("good.txt", b"good")
        archive.writestr(link, "/etc/passwd")
        archive.writestr("link/passwd", b"mine")
    assert "that is a link" in refused(tmp_path / "a.zip", room)


def test_bombs_are_measured_as_they_unpack(tmp_path: Path, room: Path) -> None:
    zeros = bytes(3_000_000)
    made = [
        zipped(tmp_path / "a.zip", {"bomb": zeros}),
        zipped(tmp_path / "b.zip", {"bomb": zeros}, compression=zipfile.ZIP_LZMA),
        tarred(tmp_path / "a.tar.gz", {"bomb": zeros}, "w:gz"),
        tarred(tmp_path / "a.tar.xz", {"bomb": zeros}, "w:xz"),
        tarred(tmp_path / "a.tar.bz2", {"bomb": zeros}, "w:bz2"),
    ]
    for path in made:
        assert path.stat().st_size < 4_000
        assert "unpacks to more than" in refused(path, room)
        assert "unpacks to more than 9,000 bytes" in refused(path, room, ArchiveLimits(max_bytes=9_000))
        generous = ArchiveLimits(max_ratio=10**6)
        assert extract(path, room / path.name, generous)[0].stat().st_size == len(zeros)


def test_a_zip_that_states_a_smaller_size_than_it_has(tmp_path: Path, room: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"bomb": bytes(5_000_000)})
    data = path.read_bytes().replace(struct.pack("<I", 5_000_000), struct.pack("<I", 10))
    path.write_bytes(data)
    assert "no whole zip or tar file" in refused(path, room)


def test_members_that_share_their_bytes_are_counted_each(tmp_path: Path, room: Path) -> None:
    """A zip whose directory names one small compressed run a thousand times."""
    path = zipped(tmp_path / "a.zip", {"00000": bytes(1_000_000)})
    data = path.read_bytes()
    directory = data.index(b"PK\x01\x02")
    entry, end = data[directory : data.index(b"PK\x05\x06")], data[data.index(b"PK\x05\x06") :]
    entries = entry * 1000
    counts = struct.pack("<HHII", 1000, 1000, len(entries), directory)
    path.write_bytes(data[:directory] + entries + end[:8] + counts + end[20:])
    assert "twice" in refused(path, room)  # one name; other names would not fit the header in front of the bytes


def test_too_many_members(tmp_path: Path, room: Path) -> None:
    files = {str(number): b"" for number in range(101)}
    for path in (zipped(tmp_path / "a.zip", files), tarred(tmp_path / "a.tar", files)):
        assert "more than 100 members" in refused(path, room, ArchiveLimits(max_members=100))
        assert len(extract(path, room / path.name, ArchiveLimits(max_members=101))) == 101


def test_a_directory_that_would_fill_the_memory(tmp_path: Path, room: Path) -> None:
    path = zipped(tmp_path / "a.zip", {f"{number}-{'x' * 200}": b"" for number in range(3000)})
    assert "header that is too long" in refused(path, room, ArchiveLimits(max_members=10))


def test_a_header_of_a_tar_that_would_fill_the_memory(tmp_path: Path, room: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x" * 100_000}):
        pass
    assert "header that is too long" in refused(path, room)


def test_a_tar_whose_member_leads_backwards(tmp_path: Path, room: Path) -> None:
    """A size below zero sends a careless reader to the same header again, for ever."""
    header = bytearray(tarfile.TarInfo("loop").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (-1024).to_bytes(12, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    for sizes in (b"", bytes(1024)):
        (tmp_path / "a.tar").write_bytes(bytes(header) + sizes)
        refused(tmp_path / "a.tar", room)


def test_broken_archives_cut_anywhere(tmp_path: Path, room: Path) -> None:
    whole = [
        zipped(tmp_path / "a.zip", FILES).read_bytes(),
        tarred(tmp_path / "a.tar.gz", FILES, "w:gz").read_bytes(),
        tarred(tmp_path / "a.tar.xz", FILES, "w:xz").read_bytes(),
        tarred(tmp_path / "a.tar", FILES).read_bytes().rstrip(b"\0"),
    ]
    cut = tmp_path / "cut"
    for data in whole:
        for length in range(0, len(data), max(1, len(data) // 40)):
            cut.write_bytes(data[:length])
            refused(cut, room)


def test_what_is_no_archive(tmp_path: Path, room: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"GIF89a" + bytes(100) + zipped(tmp_path / "b.zip", FILES).read_bytes())
    assert "no whole zip or tar file" in refused(tmp_path / "a.zip", room)
    (tmp_path / "secret.zip").write_bytes(b"")
    assert "no whole zip or tar file" in refused(tmp_path / "secret.zip", room)
    assert "cannot be unpacked (No such file" in refused(tmp_path / "missing.zip", room)
