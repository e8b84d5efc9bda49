"""Files that appear whole or not at all."""

import threading
from pathlib import Path

import pytest

from mminstruct.errors import DataError
from mminstruct.files import read_json, read_jsonl, write_bytes


def test_bytes_make_their_folders_and_leave_nothing_else(tmp_path):
    write_bytes(tmp_path / "images/a/1.png", b"one")
    write_bytes(tmp_path / "images/a/1.png", b"two")
    assert (tmp_path / "images/a/1.png").read_bytes() == b"two"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["1.png"]


def test_bytes_that_cannot_be_named_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(OSError("no room")))
    with pytest.raises(OSError, match="no room"):
        write_bytes(tmp_path / "1.png", b"one")
    assert list(tmp_path.iterdir()) == []


def test_threads_that_write_one_file_never_show_half_of_it(tmp_path):
    contents = [bytes([number]) * 200_000 for number in range(4)]
    path = tmp_path / "1.png"
    seen = set()
    write_bytes(path, contents[0])
    threads = [threading.Thread(target=lambda one=one: [write_bytes(path, one) for _ in range(20)]) for one in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.add(path.read_bytes())
    assert seen <= set(contents)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.json", None, "none.json does not exist"),
        ("folder", None, "folder is a folder; give the file in it"),
        ("latin.json", b'"\xe9"', "latin.json is not UTF-8 text"),
        ("half.json", b'{"a": ', "half.json:1 is not JSON"),
        ("deep.json", b"[" * 100_000, "deep.json(:1)? is nested too deeply"),
    ],
)
def test_a_file_that_cannot_be_read_gets_one_line(name, content, message, tmp_path):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    for read in (read_json, lambda path: list(read_jsonl(path))):
        with pytest.raises(DataError, match=message) as error:
            read(path)
        assert "\n" not in str(error.value)
