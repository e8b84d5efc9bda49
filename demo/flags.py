"""Conversations that visitors flag, as lines of `flags.jsonl` in a folder, with their media beside it.

Each line is a `Conversation`; `extra.flag` says what was said of its last answer, why, and when. Media are named after
their content, so a picture that several conversations have is kept once. Nothing is written of who flagged.
"""

from __future__ import annotations

import datetime
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mminstruct.demo.transfer import Record, record_of
from mminstruct.errors import ConfigError, RunError
from mminstruct.files import write_bytes
from mminstruct.formats import native
from mminstruct.serving.chat import Framing, Turn

FILE = "flags.jsonl"
MAX_REASON = 2000

Verdict = Literal["good", "bad", "harmful"]
VERDICTS: dict[str, Verdict] = {"good": "good", "wrong or unhelpful": "bad", "harmful": "harmful"}


class Flags:
    """Writes flags into `folder`, which is made. Raises `RunError` where it cannot be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"--flags {folder} cannot be made ({error.strerror}); give another folder") from None

    def add(self, turns: Sequence[Turn], framing: Framing, verdict: Verdict, reason: str) -> None:
        """Write the conversation up to its last answer.

        Raises:
            DataError: nothing is answered.
            ConfigError: the reason is too long.
            RunError: the folder cannot be written to.
        """
        if len(reason) > MAX_REASON:
            raise ConfigError(f"the reason has {len(reason)} characters; give at most {MAX_REASON}")
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        record = record_of(turns, framing)
        found = record.conversation
        media = [one.model_copy(update={"path": f"media/{one.sha256}{Path(one.path).suffix}"}) for one in found.media]
        flag = {"verdict": verdict, "reason": reason.strip(), "time": now}
        line = native.line(found.model_copy(update={"media": media, "extra": {**(found.extra or {}), "flag": flag}}))
        try:
            with self._lock:
                self._copy(record, [one.path for one in media])
                with (self.folder / FILE).open("a", encoding="utf-8") as stream:
                    stream.write(line)
                    stream.flush()
                    os.fsync(stream.fileno())
        except OSError as error:
            raise RunError(f"the flag could not be written ({error.strerror}); tell who runs this page") from None

    def _copy(self, record: Record, paths: Sequence[str]) -> None:
        for file, path in zip(record.files, paths, strict=True):
            if not (self.folder / path).exists():
                write_bytes(self.folder / path, file.read_bytes())
