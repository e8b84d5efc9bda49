"""Text that somebody has read or typed already: annotations of a picture's lines, in the place of an engine.

NAME.csv | NAME.txt | gt_NAME.txt ──box_file──▶ TextLine, ...   as ICDAR's competitions and SROIE have it
a record's extra.facts ────────────noted──────▶ TextLine, ...   as the builders of text-rich data write it
"""

from __future__ import annotations

import math
from pathlib import Path

from mminstruct.conversation import Conversation
from mminstruct.errors import DataError
from mminstruct.evidence.facts import facts_of
from mminstruct.evidence.ocr import TextLine
from mminstruct.files import as_text

ILLEGIBLE = "###"  # ICDAR's sign for text that nobody is asked to read


def box_files(picture: str) -> list[str]:
    """The names that the annotation of a picture may have, the picture's own name below its folder given."""
    path = Path(picture)
    return [str(path.with_name(name)) for name in (f"{path.stem}.csv", f"{path.stem}.txt", f"gt_{path.stem}.txt")]


def box_file(path: Path) -> list[TextLine]:
    """The lines of an annotation: eight corner coordinates in pixels and the text in each row, with commas between.

    Corners go clockwise from the text's own top left; the text may hold commas. Of a line whose text is `###` the
    confidence is 0.

    Raises:
        DataError: the file is missing or no UTF-8, or a row is something else.
    """
    with as_text(path):
        rows = path.read_text(encoding="utf-8-sig").splitlines()
    found = []
    for number, row in enumerate(rows, start=1):
        if not row.strip():
            continue
        *corners, text = row.split(",", 8)
        try:
            x1, y1, x2, y2, x3, y3, x4, y4 = map(float, corners)
        except ValueError:
            raise DataError(
                f"{path}:{number} has {row[:40]!r}; a row is x1,y1,x2,y2,x3,y3,x4,y4,TEXT, in pixels; mend the file"
            ) from None
        if not all(map(math.isfinite, (x1, y1, x2, y2, x3, y3, x4, y4))):
            raise DataError(f"{path}:{number} has a corner that is not finite; mend the file")
        text = text.strip()
        quad = ((x1, y1), (x2, y2), (x3, y3), (x4, y4))
        found.append(TextLine(text, quad, 0.0 if text == ILLEGIBLE else 1.0))
    return found


def noted(record: Conversation, size: tuple[int, int]) -> tuple[str, list[TextLine]]:
    """Who read a record's only picture, of this size in pixels, and the lines.

    Raises:
        DataError: the record does not say.
    """
    facts, reading = facts_of(record), (record.extra or {}).get("ocr")
    if facts is None or not isinstance(reading, dict) or not isinstance(reading.get("engine"), str):
        raise DataError(
            f"{record.id!r} does not say who read what in it; give a data set of tgdoc, llavar-pretrain or llavar"
        )
    width, height = size
    found = []
    for line in facts.lines:
        a, b, c, d = ((x * width, y * height) for x, y in line.quad)
        found.append(TextLine(line.text, (a, b, c, d), line.confidence))
    return reading["engine"], found
