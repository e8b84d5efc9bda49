"""Each file in `data_builders/` is a builder, and the engine writes what builders give, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from mminstruct import catalog, formats
from mminstruct.building import BuildConfig, Builder, Job, Progress, builder_class, load_builder, run
from mminstruct.config import Config
from mminstruct.conversation import Conversation, Media, Message, image, text
from mminstruct.errors import ConfigError, DataError, RunError
from tests.command import call

NAMES = catalog.names(catalog.BUILDER)


@pytest.mark.parametrize("name", NAMES)
def test_every_builder_says_what_it_is(name: str) -> None:
    found = builder_class(name)
    assert found.name == name
    assert found.version and found.licence
    assert found.summary.endswith(".") and "\n" not in found.summary
    assert found().options == load_builder(name).options  # every option has a default
    json.dumps(load_builder(name).options.model_dump(mode="json"))


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Everything that is built; of the log of replies, which has times of its own, only that it is there."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "calls.sqlite")
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(files)}


@pytest.mark.parametrize("name", NAMES)
def test_every_builder_runs_as_it_is_and_writes_the_same_bytes_with_any_workers(name: str, tmp_path: Path) -> None:
    """Offline, without options: by the world of its own, and by templates where it asks a model."""
    run(load_builder(name), tmp_path / "a", limit=5)
    run(load_builder(name), tmp_path / "b", BuildConfig(workers=3), limit=5)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    for conversation in formats.read(tmp_path / "a"):
        assert conversation.provenance is not None and conversation.provenance.builder == name
        turns = [*conversation.messages, *(conversation.preference.chosen if conversation.preference else ())]
        assert any(turn.text.strip() for turn in turns if turn.role == "assistant")


def test_the_first_items_alone(tmp_path: Path) -> None:
    manifest = run(Numbers(Numbers.Options(count=9)), tmp_path / "set", limit=4)
    assert manifest.conversations == 4 and manifest.builder is not None and manifest.builder["limit"] == 4
    assert [one.id for one in formats.read(tmp_path / "set")] == ["0", "1", "2", "3"]
    code, printed, _ = call("build", "llava", "--out", tmp_path / "llava", "--limit", 2, "kinds=[detail]")
    assert (code, printed) == (0, f"{tmp_path / 'llava'}: 2 conversations, 2 images\n")


@dataclass(frozen=True)
class Number:
    id: str
    value: int


class Numbers(Builder[Number]):
    """A builder whose faults can be chosen."""

    name = "numbers"
    version = "3"
    summary = "Numbers."
    licence = "CC0-1.0"

    class Options(Config):
        count: int = 2
        fault: str = ""

    options: Options

    def items(self) -> Iterator[Number]:
        yield from (Number(str(number), number) for number in range(self.options.count))
        if self.options.fault == "item":
            yield Number("0", 0)
        if self.options.fault == "killed":
            raise KeyboardInterrupt

    def make(self, item: Number, job: Job) -> Iterator[Conversation]:
        media = job.save(Image.new("L", (2, 1), item.value), "same" if self.options.fault == "name" else item.id)
        if self.options.fault == "media":
            media = Media(path="images/9.png")
        yield Conversation(
            id="0" if self.options.fault == "id" else item.id,
            messages=[Message(role="user", content=[image(), text("?")])],
            media=[media],
            provenance=job.provenance(["parent"]),
        )


def test_the_engine_writes_a_native_data_set(tmp_path: Path) -> None:
    calls: list[Progress] = []
    manifest = run(Numbers(), tmp_path / "set", advance=calls.append)
    assert (manifest.conversations, manifest.images, [call.conversations for call in calls]) == (2, 2, [1, 2])
    assert manifest.builder == {
        "name": "numbers",
        "version": "3",
        "licence": "CC0-1.0",
        "options": {"count": 2, "fault": ""},
    }
    first, second = formats.read(tmp_path / "set")
    assert (first.id, second.id) == ("0", "1")
    assert first.provenance is not None
    assert first.provenance.model_dump() == {
        "builder": "numbers",
        "version": "3",
        "parents": ["parent"],
        "call_ids": [],
        "licence": "CC0-1.0",
    }
    with Image.open(tmp_path / "set/images/1.png") as picture:
        assert (picture.size, picture.getpixel((0, 0))) == ((2, 1), 1)
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == [
        "README.md",
        "build.jsonl",
        "images",
        "manifest.json",
        "shard-00000.jsonl",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    with pytest.raises(RunError, match="already exists and is not empty"):
        run(Numbers(), tmp_path / "set")


@pytest.mark.parametrize(
    ("options", "error", "cause"),
    [
        ({"fault": "media"}, DataError, "the builder numbers gave '0' with images/9.png, which it did not write"),
        ({"fault": "name"}, DataError, "two pictures want the name images/same.png"),
        ({"fault": "item"}, DataError, "two items of numbers have the id '0'"),
        ({"fault": "id"}, DataError, "two conversations have the id '0'"),
        ({"count": 0}, DataError, "there are no conversations to write to"),
        ({"fault": "killed"}, KeyboardInterrupt, None),
    ],
)
def test_a_builder_that_fails_leaves_nothing(
    options: dict[str, object], error: type[BaseException], cause: str | None, tmp_path: Path
) -> None:
    with pytest.raises(error, match=cause):
        run(Numbers(Numbers.Options.model_validate(options)), tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_a_builder_of_ones_own_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("BUILDER = 3\n")
    with pytest.raises(ConfigError, match=r"mine\.py has no BUILDER; set BUILDER to a subclass"):
        load_builder(str(path))
    with pytest.raises(ConfigError, match=r"no builder is called 'easy-vka'\. Did you mean 'easy-vqa'\?"):
        load_builder("easy-vka")


def test_build_command(tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert call("build", "easy-vqa", "--out", out, "limit=2") == (0, f"{out}: 2 conversations, 2 images\n", "")
    code, printed, _ = call("build", "easy-vqa", "--out", tmp_path / "b", "limit=1", "split=test", "--json")
    assert code == 0
    assert json.loads(printed) == json.loads((tmp_path / "b/manifest.json").read_text())


def test_build_list() -> None:
    code, printed, _ = call("build", "list", "--json")
    rows = json.loads(printed)
    assert code == 0 and [row["name"] for row in rows] == NAMES
    assert rows[0].keys() == {"name", "version", "summary", "licence", "asks", "options"}
    assert call("build", "list")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["easy-vka", "--out", "OUT"], "no builder is called 'easy-vka'. Did you mean 'easy-vqa'?"),
        (["easy-vqa"], "no folder given for what easy-vqa builds; add --out DIR"),
        (["easy-vqa", "--out", "OUT", "limt=1"], "unknown key 'limt'. Did you mean 'limit'"),
        (["easy-vqa", "--out", "OUT", "limit=0"], "limit: Input should be greater than or equal to 1 (found 0)"),
        (["easy-vqa", "--out", "OUT", "turns=0"], "turns: give all, single, or a whole number from 1 on (found 0)"),
        (["easy-vqa", "--out", "OUT", "turns=true"], "turns: give all, single, or a whole number from 1 on"),
        (["easy-vqa", "--out", "FULL"], "already exists and is not empty"),
        (["list", "limit=1"], "build list takes neither --out nor options"),
    ],
)
def test_errors_of_build_are_one_line(arguments: list[str], cause: str, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").touch()
    places = {"OUT": tmp_path / "out", "FULL": tmp_path / "full"}
    code, out, error = call("build", *(places.get(each, each) for each in arguments))
    assert (code, out) == (2, "")
    assert error.startswith("error: ") and error.count("\n") == 1 and cause in error
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["full", "mine"]
