"""Sources whose pictures stand within their files: unpacked once, read in any order by any process, hashed when new."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch

import mminstruct
from mminstruct import formats
from mminstruct.data import seen
from mminstruct.data.dataset import ConversationDataset
from mminstruct.data.source import Joined, open_source
from mminstruct.errors import ConfigError, RunError
from tests.conftest import picture
from tests.training.conftest import write_dataset


@pytest.fixture
def llava(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "data", 9, text_only=2)
    return tmp_path / "data/data.json"


def packed(llava: Path, kind: str, folder: Path) -> Path:
    """The same data set with its pictures in it."""
    folder.mkdir()
    items = json.loads(llava.read_text())
    if kind == "table":
        rows = [
            item | {"image": {"bytes": (llava.parent / item["image"]).read_bytes(), "path": None}}
            if "image" in item
            else item
            for item in items
        ]
        turn = pyarrow.struct([("from", pyarrow.string()), ("value", pyarrow.string())])
        image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
        schema = pyarrow.schema([("id", pyarrow.string()), ("image", image), ("conversations", pyarrow.list_(turn))])
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema), folder / "a.parquet")
        return folder
    with tarfile.open(folder / "a.tar", "w") as tar:
        for item in items:
            content = {f"{item['id']}.json": json.dumps(item).encode()}
            if "image" in item:
                content[f"{item['id']}.png"] = (llava.parent / item["image"]).read_bytes()
            for name, data in content.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return folder


@pytest.mark.parametrize("kind", ["table", "webdataset"])
def test_samples_are_those_of_the_files(llava: Path, kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    processor = mminstruct.create("nano", tiny=True)[1]
    path, cache = packed(llava, kind, tmp_path / kind), tmp_path / "cache"
    assert formats.detect(path) == kind
    before = sorted(path.rglob("*"))
    source, plain = open_source(path, cache), open_source(llava, cache)
    assert sorted(path.rglob("*")) == before
    for parts in (([source], [plain]), ([source, plain], [plain, plain])):
        ours, theirs = (Joined(part) for part in parts)
        one, other = (ConversationDataset(part, part.media_root, processor, 512, cache) for part in (ours, theirs))
        for index in (8, 0, 3, len(ours) - 1):
            a, b = one[index], other[index]
            for sample in (a, b):
                if "places" in sample:
                    sample["places"] = sample["places"][:, 1:]  # in front stands the picture's path, hashed
            assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    with ProcessPoolExecutor(2) as pool:
        assert [each.id for each in pool.map(source.__getitem__, [*range(9)] * 5)] == [str(i) for i in range(9)] * 5
    with pytest.raises(ConfigError, match="stand within its files; leave media_root out"):
        open_source(path, cache, media_root=tmp_path)


def test_what_was_unpacked_is_found_and_its_files_are_hashed_once(
    llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache = packed(llava, "webdataset", tmp_path / "shards"), tmp_path / "cache"
    old = time.time() - 60
    os.utime(path / "a.tar", (old, old))
    first = open_source(path, cache)
    with monkeypatch.context() as patched:
        patched.setattr(seen, "sha256", None)
        patched.setattr(formats, "read", None)
        again = open_source(path, cache)
        assert (again.folder, again.digest) == (first.folder, first.digest)
    content = (path / "a.tar").read_bytes()
    (path / "a.tar").write_bytes(content.replace(b"circle", b"square"))  # as long as before, and only just
    assert open_source(path, cache).digest != first.digest
    (path / "a.tar").write_bytes(content)
    os.utime(path / "a.tar", (old + 1, old + 1))
    assert open_source(path, cache).digest == first.digest


def test_a_pass_that_fails_leaves_no_pictures(llava: Path, tmp_path: Path) -> None:
    path, cache = packed(llava, "webdataset", tmp_path / "shards"), tmp_path / "cache"
    content = (path / "a.tar").read_bytes()
    (path / "a.tar").write_bytes(content[: len(content) // 2])
    with pytest.raises(mminstruct.errors.DataError, match="not a whole, uncompressed tar file"):
        open_source(path, cache)
    assert not list(cache.glob("source-*")) and not list(cache.rglob("*.png"))
    (tmp_path / "file").write_text("")
    (path / "a.tar").write_bytes(content)
    with pytest.raises(RunError, match="data_cache name another folder"):
        open_source(path, tmp_path / "file/cache")


def test_headers_are_read_again_only_of_files_that_changed(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(4)]
    old = time.time() - 60
    for number, file in enumerate(files[:3]):
        picture(number, (8, 8)).save(file)
        os.utime(file, (old, old))
    files[1].write_bytes(b"broken")
    os.utime(files[1], (old, old))

    def look() -> tuple[list[str | None], list[str]]:
        asked = []

        def check(file: Path) -> str | None:
            asked.append(file.name)
            return "gone" if not file.exists() else "broken" if file.read_bytes() == b"broken" else None

        known = seen.Problems(tmp_path / "cache", "digest", tmp_path)
        found = [known.next(file, lambda file=file: check(file)) for file in files]
        known.save()
        return found, asked

    expected = [None, "broken", None, "gone"]
    assert look() == (expected, [file.name for file in files])
    assert look() == (expected, ["3.png"])  # what is missing is looked for each time
    picture(1, (8, 8)).save(files[1])
    for _ in range(2):  # a file that was changed just now may be changed again
        assert look() == ([None, None, None, "gone"], ["1.png", "3.png"])
    os.utime(files[1], (old + 5, old + 5))
    assert look()[1] == ["1.png", "3.png"] and look()[1] == ["3.png"]


def test_pictures_are_not_held_in_memory(tmp_path: Path) -> None:
    """A table and a shard of 80 MB each, unpacked by a process that may need little more than it begins with."""
    data = os.urandom(1_000_000)
    folder = tmp_path / "shards"
    folder.mkdir()
    turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "a"}]
    schema = pyarrow.schema(
        [
            ("image", pyarrow.binary()),
            ("conversations", pyarrow.list_(pyarrow.struct([("from", pyarrow.string()), ("value", pyarrow.string())]))),
        ]
    )
    with (
        pyarrow.parquet.ParquetWriter(tmp_path / "a.parquet", schema, compression="none") as table,
        tarfile.open(folder / "a.tar", "w") as tar,
    ):
        for number in range(80):
            row = {"image": number.to_bytes(4, "big") + data, "conversations": turns}
            table.write_table(pyarrow.Table.from_pylist([row], schema))
            for ending, content in (("jpg", row["image"]), ("txt", b"a")):
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    program = (
        "import resource, sys; from pathlib import Path; import pyarrow.parquet\n"
        "from mminstruct.data.source import open_source\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "for path in sys.argv[2:]:\n"
        "    before = peak(); count = len(open_source(Path(path), Path(sys.argv[1]))); print(count, peak() - before)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "cache"), str(tmp_path / "a.parquet"), str(folder)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    for line in lines:
        count, grown = map(int, line.split())
        assert count == 80 and grown < 50, f"{grown} MB"
    assert len(lines) == 2
