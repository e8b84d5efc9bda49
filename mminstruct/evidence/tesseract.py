"""Tesseract, the command-line program, as an engine.

picture ──PPM over stdin──▶ tesseract stdin stdout ... tsv ──words──▶ lines with upright boxes

One process a picture, so any number of threads may read at once; each process is held to one thread.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
from collections.abc import Iterator

from PIL import Image

from mminstruct.errors import ConfigError, MediaError
from mminstruct.evidence.ocr import OcrEngine, TextLine, box_quad

_WORD = "5"  # the level of a row that is a word


class Tesseract(OcrEngine):
    """
    Args:
        language: as Tesseract calls it: `eng`, `deu`, `eng+deu`.
        time_limit: seconds for one picture.

    Raises:
        ConfigError: the program or a language's data is not installed.
    """

    name = "tesseract"

    def __init__(self, language: str = "eng", time_limit: float = 60.0) -> None:
        program = shutil.which("tesseract")
        if program is None:
            raise ConfigError(
                "the program tesseract is not installed; install it (Debian: apt install tesseract-ocr), "
                "or choose the engine rapidocr"
            )
        self._command = [program, "stdin", "stdout", "-l", language, "--psm", "3", "tsv"]
        self._time_limit = time_limit
        self._environment = os.environ | {"OMP_THREAD_LIMIT": "1"}
        known = self._told(program, "--list-langs").splitlines()[1:]
        for one in language.split("+"):
            if one not in known:
                raise ConfigError(
                    f"tesseract has no data for the language {one!r} (it has {', '.join(known)}); "
                    f"install it (Debian: tesseract-ocr-{one}), or give one that it has"
                )
        self.version = f"{self._told(program, '--version').splitlines()[0].removeprefix('tesseract ')} {language}"

    def read(self, picture: Image.Image) -> list[TextLine]:
        return lines_of(self._table(picture))

    def words(self, picture: Image.Image) -> list[TextLine]:
        """The text word by word, each with a box of its own. Raises as `read` does."""
        return words_of(self._table(picture))

    def _table(self, picture: Image.Image) -> str:
        stream = io.BytesIO()
        picture.convert("RGB").save(stream, "PPM")
        try:
            done = subprocess.run(
                self._command,
                input=stream.getvalue(),
                capture_output=True,
                timeout=self._time_limit,
                env=self._environment,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise MediaError(
                f"tesseract read for more than {self._time_limit:g} s at a picture of "
                f"{picture.width} x {picture.height} pixels; leave it out, or make it smaller"
            ) from None
        except OSError as error:
            raise MediaError(f"tesseract did not run ({error.strerror}); try again, or leave the picture out") from None
        if done.returncode != 0:
            told = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing was said"]
            raise MediaError(
                f"tesseract failed at a picture of {picture.width} x {picture.height} pixels ({told[-1]}); leave it out"
            )
        return done.stdout.decode("utf-8", errors="replace")

    def _told(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=self._time_limit, check=False)
        if done.returncode != 0 or not done.stdout.strip():
            raise ConfigError(f"{' '.join(command)} gave no answer; is the installation of tesseract whole?")
        return done.stdout


def lines_of(tsv: str) -> list[TextLine]:
    """The lines in Tesseract's table of words, in its order; a line's confidence is its words' by length."""
    words: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in _word_rows(tsv):
        words.setdefault((row["block_num"], row["par_num"], row["line_num"]), []).append(row)
    found = []
    for line in words.values():
        lefts, tops = [int(word["left"]) for word in line], [int(word["top"]) for word in line]
        right = max(int(word["left"]) + int(word["width"]) for word in line)
        bottom = max(int(word["top"]) + int(word["height"]) for word in line)
        sizes = [len(word["text"].strip()) for word in line]
        sure = sum(float(word["conf"]) * size for word, size in zip(line, sizes, strict=True)) / sum(sizes) / 100
        text = " ".join(word["text"].strip() for word in line)
        found.append(TextLine(text, box_quad((min(lefts), min(tops), right, bottom)), min(1.0, max(0.0, sure))))
    return found


def words_of(tsv: str) -> list[TextLine]:
    """The words in Tesseract's table, in its order."""
    found = []
    for row in _word_rows(tsv):
        left, top, sure = int(row["left"]), int(row["top"]), float(row["conf"]) / 100
        quad = box_quad((left, top, left + int(row["width"]), top + int(row["height"])))
        found.append(TextLine(row["text"].strip(), quad, min(1.0, max(0.0, sure))))
    return found


def _word_rows(tsv: str) -> Iterator[dict[str, str]]:
    for row in csv.DictReader(io.StringIO(tsv), delimiter="\t", quoting=csv.QUOTE_NONE):
        if row["level"] == _WORD and row["text"].strip():
            yield row
