"""Tables and shards: the conversations that were put in, in every layout; their pictures byte for byte, each once."""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from mminstruct import formats
from mminstruct.conversation import Conversation, ImagePart
from mminstruct.errors import ConfigError, DataError, MminstructError
from mminstruct.formats.embedded import LIMIT
from tests.command import call
from tests.conftest import picture

IMAGE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def encoded(number: int, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    picture(number, (20 + number, 16)).save(stream, kind)
    return stream.getvalue()


def cell(number: int) -> dict:
    return {"bytes": encoded(number), "path": f"{number}.png"}


def llava_turns(marks: int, text: str = "what?") -> list[dict]:
    return [{"from": "human", "value": "<image>" * marks + text}, {"from": "gpt", "value": "a circle"}]


PARTS = [{"type": "image", "text": None}, {"type": "text", "text": "what?"}]
# Of each layout: columns with their types, rows, and of each row how many pictures it shows.
LAYOUTS = {
    "llava": (
        {"id": pyarrow.string(), "image": IMAGE, "conversations": None, "source": pyarrow.string(), "depth": IMAGE},
        [
            {"id": "a", "image": cell(0), "conversations": llava_turns(1), "source": "x", "depth": cell(9)},
            {"id": "b", "image": None, "conversations": llava_turns(0), "source": None, "depth": None},
        ],
        [1, 0],
    ),
    "messages": (
        {"images": pyarrow.list_(IMAGE), "messages": None},
        [
            {"images": [cell(0), cell(1)], "messages": [{"role": "user", "content": PARTS + PARTS},
                {"role": "assistant", "content": [{"type": "text", "text": "a circle"}]}]},
            {"images": [cell(1)], "messages": [{"role": "user", "content": PARTS}]},
        ],
        [2, 1],
    ),
    "cauldron": (
        {"images": pyarrow.list_(IMAGE), "texts": None},
        [
            {"images": [cell(0), cell(1)], "texts": [{"user": "what?", "assistant": "a circle", "source": "s"},
                                                     {"user": "and?", "assistant": "red", "source": "s"}]},
        ],
        [2],
    ),
    "bytes": (
        {"image": pyarrow.binary(), "conversations": None},
        [{"image": encoded(0), "conversations": llava_turns(1)}],
        [1],
    ),
}  # fmt: skip


def table(layout: str) -> pyarrow.Table:
    types, rows, _ = LAYOUTS[layout]
    columns = {name: pyarrow.array([row[name] for row in rows], kind) for name, kind in types.items()}
    return pyarrow.table(columns)


def save(layout: str, path: Path, way: str) -> Path:
    """As the hub has it (a file, a folder with `data/`), or as `save_to_disk` lays it out."""
    found = table(layout)
    path.mkdir()
    if way == "file":
        pyarrow.parquet.write_table(found, path / "rows.parquet")
        return path / "rows.parquet"
    if way == "hub":
        (path / "data").mkdir()
        for number in range(len(found)):
            name = f"train-{number:05d}-of-{len(found):05d}.parquet"
            pyarrow.parquet.write_table(found.slice(number, 1), path / "data" / name)
        return path
    file = str(path / "data-00000-of-00001.arrow")
    with pyarrow.OSFile(file, "wb") as stream, pyarrow.ipc.new_stream(stream, found.schema) as writer:
        writer.write_table(found)
    (path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    return path


@pytest.mark.parametrize("way", ["file", "hub", "saved"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_tables_of_every_layout(layout: str, way: str, tmp_path: Path) -> None:
    path = save(layout, tmp_path / "table", way)
    _, rows, counts = LAYOUTS[layout]
    assert formats.detect(path) == "table" and formats.embeds(path, "table")
    found = list(formats.read(path, unpack=tmp_path / "out"))
    assert [len(one.media) for one in found] == counts
    assert all(one.messages[0].text.startswith("what?") for one in found)
    assert not any(set(one.extra or {}) & {"image", "images", "depth"} for one in found)
    for one, row in zip(found, rows, strict=True):
        cells = row.get("images") or [row.get("image")]
        given = [each["bytes"] if isinstance(each, dict) else each for each in cells if each is not None]
        assert [(tmp_path / "out" / media.path).read_bytes() for media in one.media] == given
        places = [part.index for turn in one.messages for part in turn.content if isinstance(part, ImagePart)]
        assert places == list(range(len(one.media)))
    written = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert len(written) == len({media.path for one in found for media in one.media})
    assert list(formats.read(path)) == found  # without a folder: the same, and nothing is written


def test_what_a_table_says_beside_pictures_is_kept(tmp_path: Path) -> None:
    first, second = formats.read(save("llava", tmp_path / "table", "file"))
    assert (first.id, first.extra, second.id, second.extra) == ("a", {"source": "x"}, "b", None)
    (only,) = formats.read(save("cauldron", tmp_path / "other", "saved"))
    assert only.id == "data-00000-of-00001/0" and only.extra == {"texts": [{"source": "s"}, {"source": "s"}]}
    assert [turn.text for turn in only.messages] == ["what?", "a circle", "and?", "red"]


def test_a_table_of_paths_is_read_as_a_json_file_is(tmp_path: Path) -> None:
    rows = [{"id": "1", "image": "a.png", "conversations": llava_turns(1)}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    assert not formats.embeds(tmp_path / "rows.parquet", "table")
    assert list(formats.read(tmp_path / "rows.parquet")) == list(formats.read(tmp_path / "rows.json"))


def test_splits_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        pyarrow.parquet.write_table(table("llava"), folder / f"{name}.parquet")
    with pytest.raises(ConfigError, match="has the splits test, train; say which with the option split"):
        formats.read(tmp_path)
    assert len(list(formats.read(tmp_path, split="train", duplicate_ids="number"))) == 4
    code, out, _ = call("data", "stats", tmp_path, "--split", "test", "--json")
    assert code == 0 and json.loads(out)["unique_images"] == 1
    with pytest.raises(ConfigError, match=r"no split 'tset'. Did you mean 'test'"):
        formats.read(tmp_path, split="tset")
    save("llava", tmp_path / "dict", "hub")
    (tmp_path / "dict/dataset_dict.json").write_text('{"splits": ["a"]}')
    save("llava", tmp_path / "dict/a", "saved")
    assert [one.id for one in formats.read(tmp_path / "dict")] == ["a", "b"]


def shard(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def as_json(**item) -> bytes:
    return json.dumps(item).encode()


def test_shards_of_items_and_captions(tmp_path: Path) -> None:
    shard(
        tmp_path / "0.tar",
        [
            ("a/1.jpg", encoded(0, "JPEG")),
            ("a/1.json", as_json(id="first", conversations=llava_turns(1))),
            ("a/2.json", as_json(messages=[{"role": "user", "content": PARTS * 12}])),
            *((f"a/2.{number}.png", encoded(number)) for number in sorted(range(12), key=str)),
            ("a/2.cls", b"7"),
        ],
    )
    shard(
        tmp_path / "1.tar",
        [("3.webp", encoded(3, "WEBP")), ("3.txt", "ein Bär".encode()), ("3.json", as_json(url="u"))],
    )
    assert formats.detect(tmp_path) == formats.detect(tmp_path / "0.tar") == "webdataset"
    found = list(formats.read(tmp_path, unpack=tmp_path / "out"))
    assert [one.id for one in found] == ["first", "0/a/2", "1/3"]
    kept = [[(tmp_path / "out" / media.path).read_bytes() for media in one.media] for one in found]
    assert kept == [[encoded(0, "JPEG")], [encoded(number) for number in range(12)], [encoded(3, "WEBP")]]
    assert [Path(one.media[0].path).suffix for one in found] == [".jpeg", ".png", ".webp"]
    assert [turn.text for turn in found[2].messages] == ["", "ein Bär"] and found[2].extra == {"url": "u"}


@pytest.mark.parametrize(
    ("members", "cause"),
    [
        ([("1.json", as_json(conversations=llava_turns(1)))], "has 1 <image> mark and 0 images"),
        ([("1.jpg", encoded(0, "JPEG"))], "sample '1' has neither turns"),
        ([("1.txt", b"a cat")], "has a caption and no picture"),
        ([("1.json", b"{")], "is not JSON"),
        ([("1.json", b"[]")], "is a list; an item is an object"),
        ([("1.jpg", b"x"), ("1.txt", b"\xff")], "is not UTF-8"),
        ([("1.txt", b"x"), ("1.txt", b"y")], "'1.txt' twice"),
        ([("1.json", as_json(id=[1], conversations=llava_turns(0)))], "ids are texts or whole numbers"),
        ([("1.jpg", bytes(LIMIT + 1))], "more than the limit of"),
    ],
)
def test_broken_samples_are_named(members: list[tuple[str, bytes]], cause: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        list(formats.read(shard(tmp_path / "0.tar", members)))
    assert cause in str(caught.value) and str(caught.value).startswith(f"{tmp_path}/0.tar")


def test_names_in_a_shard_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    members = [("../../1.png", encoded(0)), ("../../1.txt", b"a")]
    list(formats.read(shard(tmp_path / "0.tar", members), unpack=tmp_path / "deep/er/out"))
    outside = {file.name for file in tmp_path.rglob("*") if file.is_file() and "out" not in file.parts}
    assert outside == {"secret.txt", "0.tar"}
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
        link = tarfile.TarInfo("2.txt")
        link.type, link.linkname = kind, str(tmp_path / "secret.txt")
        with tarfile.open(tmp_path / "1.tar", "w") as tar:
            tar.addfile(link)
        with pytest.raises(DataError, match=r"'2.txt', is a link or a device"):
            list(formats.read(tmp_path / "1.tar"))


def test_files_that_were_cut_or_broken_anywhere_give_one_line(tmp_path: Path) -> None:
    """Every prefix of a shard and of tables is refused, and random bytes in them never raise anything else."""
    whole = {
        "webdataset": shard(tmp_path / "0.tar", [("1.png", encoded(0)), ("1.txt", b"a"), ("2.png", b"")]),
        "table": save("llava", tmp_path / "a", "file"),
        "saved": save("messages", tmp_path / "b", "saved") / "data-00000-of-00001.arrow",
    }
    outcomes: Counter[str] = Counter()
    rng = random.Random(0)
    for name, path in whole.items():
        content = path.read_bytes()
        path = path.with_name("cut" + path.suffix)
        for length in [rng.randrange(len(content) - 1024) for _ in range(60)]:
            path.write_bytes(content[:length])
            with pytest.raises(DataError):
                list(formats.read(path))
        for _ in range(60):
            broken = bytearray(content)
            for place in rng.choices(range(len(content)), k=8):
                broken[place] = rng.randrange(256)
            path.write_bytes(broken)
            try:
                list(formats.read(path, unpack=tmp_path / "out"))
            except MminstructError as error:
                assert "\n" not in str(error)
                outcomes[name] += 1
    assert all(outcomes[name] for name in ("webdataset", "table"))


def test_a_name_of_the_hub_says_how_to_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="hf download owner/name --repo-type dataset --local-dir FOLDER"):
        formats.detect(Path("owner/name"))


def test_without_pyarrow_a_table_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save("llava", tmp_path / "a", "file")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'mminstruct\[tables\]'"):
        formats.read(path)


def test_convert_unpacks_pictures(tmp_path: Path) -> None:
    path = save("llava", tmp_path / "a", "file")
    arguments = ["data", "convert", path, "--to", "llava", "--out", tmp_path / "out/data.json"]
    code, _, error = call(*arguments)
    assert code == 2 and "say where to write them with --unpack" in error
    assert call(*arguments, "--unpack", tmp_path / "pictures")[0] == 0
    first: Conversation = next(formats.read(tmp_path / "out/data.json"))
    assert (tmp_path / "out" / first.media[0].path).read_bytes() == encoded(0)
    code, _, error = call("data", "convert", tmp_path / "out/data.json", "--to", "native", "--out", tmp_path / "n",
                          "--unpack", tmp_path / "p")  # fmt: skip
    assert code == 2 and "are files already; leave --unpack out" in error
    with pytest.raises(ConfigError, match="the format 'table' is read only"):
        formats.write([first], tmp_path / "x.parquet", "table")
