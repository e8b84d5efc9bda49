"""LLaVAR's first stage: targets are the text that can be read, no more and no less."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from mminstruct import formats
from mminstruct.building import BuildConfig, load_builder, run
from mminstruct.conversation import Conversation, ImagePart
from mminstruct.data_builders import llavar_pretrain
from mminstruct.data_builders.worlds.lettering import Block, Face, printed
from mminstruct.data_builders.worlds.posters import Poster, poster
from mminstruct.data_builders.worlds.receipts import receipt
from mminstruct.data_builders.worlds.text_pictures import TextBuilder
from mminstruct.errors import ConfigError, DataError, MediaError
from mminstruct.evidence.facts import facts_of
from mminstruct.evidence.measures import character_error_rate
from mminstruct.evidence.ocr import OcrEngine, TextLine
from tests.command import call

LEAST = 15.3

needs_tesseract = pytest.mark.skipif(shutil.which("tesseract") is None, reason="the program tesseract is not installed")


def answer(conversation: Conversation) -> str:
    assert [message.role for message in conversation.messages] == ["user", "assistant"]
    return conversation.messages[1].text


def built(out: Path, *options: str, name: str = "llavar-pretrain") -> list[Conversation]:
    run(load_builder(name, list(options)), out)
    return list(formats.read(out))


class Page(OcrEngine):
    """An engine that gives, for a picture of a size, lines of that picture; it notes what it was shown."""

    name = "page"
    version = "7"

    def __init__(self, lines: list[TextLine], of: tuple[int, int]) -> None:
        self.lines = lines
        self.of = of
        self.shown: list[tuple[int, int]] = []

    def read(self, picture: Image.Image) -> list[TextLine]:
        self.shown.append(picture.size)
        return [line.scaled(picture.width / self.of[0]) for line in self.lines]


@pytest.fixture(scope="module")
def posters(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Conversation], Path]:
    out = tmp_path_factory.mktemp("pretrain") / "set"
    return built(out, "worlds=[posters]", "pictures=24", f"least_height={LEAST}"), out


def expected(drawn: Poster, least: float) -> str:
    """Block by block; a row counts where it is so many pixels high, air included, the shorter edge being 384."""
    scale = min(1.0, 384 / min(drawn.size))
    said = []
    for block in drawn.blocks:
        _, tall, _, hanging = block.face.font.getbbox("dp", anchor="ls")
        tops = [min(tall, block.face.font.getbbox(row, anchor="ls")[1]) for row in block.rows]
        rows = [row for row, top in zip(block.rows, tops, strict=True) if (hanging - top + 2) * scale >= least]
        if rows:
            said.append(" ".join(rows))
    return "\n".join(said)


def test_the_target_is_the_text_of_the_poster_that_can_be_read(posters: tuple[list[Conversation], Path]) -> None:
    found, out = posters
    cut = 0
    for number, one in enumerate(found):
        drawn = poster(0, number)
        assert one.id == f"llavar-pretrain/posters/0/{number}" and one.task == "llavar+read"
        whole = "\n".join(" ".join(block.rows) for block in drawn.blocks)
        target = answer(one)
        assert target == expected(drawn, LEAST)
        cut += target != whole
        with Image.open(out / one.media[0].path) as picture:
            assert picture.convert("RGB").tobytes() == drawn.draw().convert("RGB").tobytes()
    assert 3 < cut < 24  # some posters have print that is too small


def test_instructions_vary_and_the_picture_stands_on_both_sides(posters: tuple[list[Conversation], Path]) -> None:
    found, _ = posters
    asked = [one.messages[0].text.strip() for one in found]
    assert set(asked) <= set(llavar_pretrain.prompt_file().instructions) and len(set(asked)) >= 8
    assert len(set(llavar_pretrain.prompt_file().instructions)) >= 10
    assert {isinstance(one.messages[0].content[0], ImagePart) for one in found} == {True, False}


def test_records_say_who_read_what_where(posters: tuple[list[Conversation], Path]) -> None:
    one = posters[0][3]
    assert one.extra is not None and one.scores == {"ocr_confidence": 1.0}
    ocr = one.extra["ocr"]
    assert (ocr["engine"], ocr["short_edge"]) == ("known", 384)
    texts = {line.text: line for line in poster(0, 3).lines()}
    facts = facts_of(one)
    assert facts is not None and len(facts.lines) > 3
    width, height = poster(0, 3).size
    for line in facts.lines:
        assert line.confidence == 1
        for (x, y), (u, v) in zip(line.quad, texts[line.text].quad, strict=True):
            assert abs(x * width - u) <= 0.01 and abs(y * height - v) <= 0.01


def test_rows_and_columns(tmp_path: Path) -> None:
    (joined,) = built(tmp_path / "a", "worlds=[receipts]", "pictures=1")
    (kept,) = built(tmp_path / "b", "worlds=[receipts]", "pictures=1", "rows=kept")
    (columns,) = built(tmp_path / "c", "worlds=[receipts]", "pictures=1", "rows=kept", "column_gap=3")
    total = f"TOTAL EUR {receipt(0, 0).facts['total']}"
    assert total in answer(joined) and total in answer(kept).splitlines()
    assert answer(joined).split() == answer(kept).split()
    assert total not in answer(columns) and sorted(answer(columns).split()) == sorted(answer(kept).split())


def folder(path: Path) -> Path:
    """Two scans: a large one with one small line, and one with a single word."""
    path.mkdir()
    (path / "in").mkdir()
    large = [("Harvest supper", 60), ("in the old barn", 50), ("with small print", 24)]
    blocks = [
        Block((words,), Face("serif", size), (0, 0, 0), 100, 150 + 200 * number)
        for number, (words, size) in enumerate(large)
    ]
    printed((1536, 1152), (255, 255, 255), blocks).save(path / "in/large.PNG")
    single = Block(("Exit",), Face("sans", 40), (0, 0, 0), 60, 60)
    printed((300, 200), (255, 255, 255), [single]).convert("RGB").save(path / "b.jpg")
    (path / "notes.txt").write_text("no picture")
    return path


@needs_tesseract
def test_a_folder_is_read_at_the_resolution_of_the_encoder(tmp_path: Path) -> None:
    source = folder(tmp_path / "scans")
    out = tmp_path / "set"
    manifest = run(load_builder("llavar-pretrain", [f"source={source}", "engine=tesseract"]), out)
    (one,) = formats.read(out)
    assert one.id == "llavar-pretrain/in/large.PNG" and one.media[0].path == "images/in/large.PNG"
    assert (out / one.media[0].path).read_bytes() == (source / "in/large.PNG").read_bytes()
    assert answer(one) == "Harvest supper\nin the old barn"
    assert one.extra is not None and re.match(r"tesseract \d.* eng$", one.extra["ocr"]["engine"])
    assert manifest.conversations == 1
    built_rows = [json.loads(row) for row in (out / "build.jsonl").read_text().splitlines()]
    assert any("too few words" in json.dumps(row) for row in built_rows)  # the single word
    small = built(tmp_path / "b", f"source={source}", "engine=tesseract", "short_edge=null", "least_words=1")
    assert [answer(each) for each in small] == ["Exit", "Harvest supper\nin the old barn\nwith small print"]


def test_rapidocr_through_the_command_line(tmp_path: Path) -> None:
    """One square picture, since the engine takes its time."""
    (tmp_path / "scans").mkdir()
    block = Block(("Käse & Brot", "täglich frisch"), Face("sans", 24), (90, 0, 0), 30, 60)
    printed((240, 240), (255, 255, 255), [block]).save(tmp_path / "scans/a.png")
    out = tmp_path / "set"
    code, said, error = call(
        *("build", "llavar-pretrain", "--out", out, f"source={tmp_path / 'scans'}", "engine=rapidocr")
    )
    assert (code, said, error) == (0, f"{out}: 1 conversation, 1 image\n", "")
    (one,) = formats.read(out)
    assert character_error_rate(answer(one), "Käse & Brot täglich frisch") < 0.05


def with_engines(first: OcrEngine, second: OcrEngine | None, source: Path, *options: str) -> TextBuilder:
    builder = load_builder("llavar-pretrain", [f"source={source}", "engine=tesseract", *options])
    assert isinstance(builder, TextBuilder)
    builder.engine, builder.second = first, second
    return builder


@needs_tesseract
def test_two_engines_agree_or_the_picture_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    picture = Image.new("RGB", (768, 900), "white")
    ImageDraw.Draw(picture).rectangle((0, 0, 100, 100), fill="red")
    picture.save(tmp_path / "scans/a.png")

    def lines(*texts: str, sure: float = 0.9) -> list[TextLine]:
        return [
            TextLine(words, ((50, y), (500, y), (500, y + 30), (50, y + 30)), sure)
            for words, y in zip(texts, range(100, 800, 60), strict=False)
        ]

    first = Page(lines("Fresh bread daily", "from seven"), picture.size)
    second = Page(lines("Fresh bread dai1y", "from seven"), picture.size)
    out = tmp_path / "set"
    run(with_engines(first, second, tmp_path / "scans", "most_disagreement=0.1"), out)
    (one,) = formats.read(out)
    assert first.shown == second.shown == [(384, 450)]
    assert answer(one) == "Fresh bread daily\nfrom seven"
    assert one.scores == {"ocr_confidence": 0.9, "ocr_disagreement": round(1 / 27, 4)}
    assert one.extra is not None and one.extra["ocr"]["second"] == "page 7"
    assert one.extra["ocr"]["agreement"]["matched"] == 2
    other = Page(lines("Quite another text", "altogether"), picture.size)
    with pytest.raises(DataError, match="there are no conversations"):  # all of one picture are left out
        run(with_engines(first, other, tmp_path / "scans", "most_disagreement=0.1"), tmp_path / "b")
    unsure = Page([*lines("Fresh bread daily"), *lines("", "!?;", sure=0.2)[1:]], picture.size)
    run(with_engines(unsure, None, tmp_path / "scans"), tmp_path / "c")
    assert [answer(one) for one in formats.read(tmp_path / "c")] == ["Fresh bread daily"]


@pytest.mark.parametrize(
    ("options", "error", "cause"),
    [
        (["source=FOLDER"], ConfigError, "nobody knows what the pictures of a folder say; add engine=rapidocr"),
        (["engine=tesseract", "second=tesseract"], ConfigError, "two readings of one engine say nothing"),
        (["languages=[en, xx]"], ConfigError, "no posters are written in 'xx'; there are en, de, fr, es, ru, el"),
        (["engine=easyocr"], ConfigError, "engine: Input should be 'known', 'given', 'tesseract' or 'rapidocr'"),
        (["source=FOLDER/none", "engine=tesseract"], DataError, "none does not exist; check the option source"),
        (["source=FOLDER", "engine=tesseract"], DataError, "there is no picture in .*names end in"),
    ],
)
@needs_tesseract
def test_what_cannot_be_built_is_said_in_one_line(
    options: list[str], error: type[Exception], cause: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    given = [option.replace("FOLDER", str(tmp_path / "empty")) for option in options]
    with pytest.raises(error, match=cause):
        run(load_builder("llavar-pretrain", given), tmp_path / "set")
    assert not (tmp_path / "set").exists()


@needs_tesseract
def test_a_broken_picture_stops_the_build_or_is_left_out(tmp_path: Path) -> None:
    source = folder(tmp_path / "scans")
    (source / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    options = [f"source={source}", "engine=tesseract"]
    with pytest.raises(MediaError, match=r"a\.png"):
        run(load_builder("llavar-pretrain", options), tmp_path / "a")
    run(load_builder("llavar-pretrain", options), tmp_path / "b", BuildConfig(on_error="skip", workers=3))
    (dead,) = [json.loads(row) for row in (tmp_path / "b/dead-letters.jsonl").read_text().splitlines()]
    assert dead["item"] == "a.png" and dead["reason"] == "media"
