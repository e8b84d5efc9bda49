"""Two engines on scanned receipts with hand-made boxes, through the builders that use them.

    python benchmarks/ocr.py RECEIPTS --count 40

RECEIPTS has `img/NAME.jpg` and `box/NAME.csv`, a line of text a row: eight corner coordinates, clockwise from the top
left, and the text, which may hold commas (the form of ICDAR 2019's SROIE). The real builders run over the pictures one
after another: `tgdoc` at full resolution, `llavar-pretrain` with the shorter edge at 384 pixels; neither leaves a line
or a picture out. What was read, and where, is taken from the records that they wrote.

Boxes are matched one to one, best overlap first. `boxes` compares them as they are; `rows` joins those of one row on
both sides first, since engines cut rows in other places than people did. The character error rate (CER) is that of the
matched ones; `page` is the edit distance of all text in rows from top to bottom, missed and invented text included. The
scans' transcripts are in capital letters where the print is not, so capitals are not told apart.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from mminstruct import formats
from mminstruct.building import load_builder, run
from mminstruct.data_builders.worlds.text_pictures import TextBuilder
from mminstruct.evidence.agreement import matches
from mminstruct.evidence.given import box_file, noted
from mminstruct.evidence.layout import rows
from mminstruct.evidence.measures import edit_distance, quad_iou
from mminstruct.evidence.ocr import OcrEngine, TextLine

ENGINES = ("tesseract", "rapidocr")
# Nothing is left out, so that every line of the engine is judged.
COMMON = ["least_height=0", "least_confidence=0"]
BUILDERS = {
    "tgdoc": [*COMMON, "kinds=[spotting]", "most_lines=10000"],
    "llavar-pretrain": [*COMMON, "least_words=1", "rows=kept"],
}


class Timed(OcrEngine):
    """An engine, and the seconds that went by in it."""

    def __init__(self, engine: OcrEngine) -> None:
        self.engine = engine
        self.name, self.version = engine.name, engine.version
        self.seconds = 0.0

    def read(self, picture: Image.Image) -> list[TextLine]:
        start = time.perf_counter()
        try:
            return self.engine.read(picture)
        finally:
            self.seconds += time.perf_counter() - start


@dataclass
class Score:
    """Sums over pictures."""

    truths: int = 0
    found: int = 0
    matched: int = 0
    edits: int = 0
    characters: int = 0
    overlaps: list[float] = field(default_factory=list)

    def add(self, found: list[TextLine], truth: list[TextLine]) -> None:
        pairs = matches(truth, found, 0.5)
        self.truths += len(truth)
        self.found += len(found)
        self.matched += len(pairs)
        for i, j in pairs:
            self.edits += edit_distance(_folded(found[j].text), _folded(truth[i].text))
            self.characters += len(_folded(truth[i].text))
            self.overlaps.append(quad_iou(truth[i].quad, found[j].quad))

    def row(self) -> str:
        precision, recall = self.matched / max(1, self.found), self.matched / max(1, self.truths)
        mean = statistics.fmean(self.overlaps) if self.overlaps else 0.0
        rate = self.edits / max(1, self.characters)
        return f"{precision:.3f} | {recall:.3f} | {mean:.3f} | {rate:.3f}"


def _folded(text: str) -> str:
    return " ".join(text.upper().split())


def read_back(built: Path) -> dict[str, list[TextLine]]:
    """What the records say was read: name of the picture to lines."""
    found = {}
    for record in formats.read(built):
        media = record.media[0]
        assert media.width is not None and media.height is not None
        found[Path(media.path).stem] = noted(record, (media.width, media.height))[1]
    return found


def main(
    receipts: Annotated[Path, typer.Argument(help="folder with img/ and box/")],
    count: Annotated[int, typer.Option(help="the first so many by name")] = 40,
    engines: Annotated[str, typer.Option(help="which ones, with commas between")] = ",".join(ENGINES),
) -> None:
    pictures = sorted((receipts / "img").glob("*.jpg"))[:count]
    truths = {path.stem: box_file(receipts / "box" / f"{path.stem}.csv") for path in pictures}
    lines = sum(map(len, truths.values()))
    typer.echo(f"{len(pictures)} receipts, {lines} hand-made boxes\n")
    quality, speed = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pictures"
        folder.mkdir()
        for path in pictures:
            shutil.copy(path, folder)
        for engine in engines.split(","):
            for builder_name, options in BUILDERS.items():
                builder = load_builder(builder_name, [f"source={folder}", f"engine={engine}", *options])
                assert isinstance(builder, TextBuilder) and builder.engine is not None
                builder.engine.read(Image.new("RGB", (64, 64), "white"))  # what is loaded once does not count
                timed = builder.engine = Timed(builder.engine)
                start = time.perf_counter()
                run(builder, Path(name) / f"{engine}-{builder_name}")
                whole = time.perf_counter() - start
                read = read_back(Path(name) / f"{engine}-{builder_name}")
                quality.append(_quality(f"{timed.name}, `{builder_name}`", read, truths))
                speed.append(
                    f"| {timed.name}, `{builder_name}` | {len(pictures) / whole:.2f} | {timed.seconds:.1f} s "
                    f"| {whole - timed.seconds:.2f} s | {(whole - timed.seconds) / whole:.1%} |"
                )
                typer.echo(f"{timed.name} {timed.version}, {builder_name}: {whole:.1f} s", err=True)
    typer.echo(
        "| engine, builder | boxes: precision | recall | IoU | CER | rows: precision | recall | IoU | CER | page CER |"
    )
    typer.echo("|---|---|---|---|---|---|---|---|---|---|")
    typer.echo("\n".join(quality))
    typer.echo("\n| engine, builder | receipts/s | engine | builder | builder's share |\n|---|---|---|---|---|")
    typer.echo("\n".join(speed))


def _quality(label: str, read: dict[str, list[TextLine]], truths: dict[str, list[TextLine]]) -> str:
    boxes, joined = Score(), Score()
    edits = characters = 0
    for name, true in truths.items():
        found = read.get(name, [])
        boxes.add(found, true)
        joined.add(rows(found), rows(true))
        page = _folded("\n".join(line.text for line in rows(true)))
        edits += edit_distance(_folded("\n".join(line.text for line in rows(found))), page)
        characters += len(page)
    return f"| {label} | {boxes.row()} | {joined.row()} | {edits / characters:.3f} |"


if __name__ == "__main__":
    typer.run(main)
