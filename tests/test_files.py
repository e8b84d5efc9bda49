"""Files that appear whole or not at all."""

import threading
from pathlib import Path

import pytest

from mminstruct.files import write_bytes


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
