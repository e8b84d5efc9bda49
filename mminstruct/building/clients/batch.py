"""Questions in files, as OpenAI's batch API and vLLM's `run-batch` take them: cheaper, and answered within a day.

    each item is tried ──questions without a reply──▶ NNNN.requests.jsonl ──server, or you──▶ NNNN.replies.jsonl
            ▲                                                                                         │
            └──────────── again, since replies lead to further questions, until none is left ◀────────┘

The replies are those of the chat API, so one log serves both. What was sent is never sent again: a batch is known by
the hash of its questions, at the server too, where a kill came between sending it and noting so.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TextIO

from pydantic import BaseModel, Field, ValidationError

from mminstruct.building.call_log import CallLog
from mminstruct.building.clients.base import Call, LanguageModelClient
from mminstruct.building.clients.chat_api import AGAIN, body, completion, connect
from mminstruct.building.limits import Budget
from mminstruct.building.request import Completion
from mminstruct.config import Config
from mminstruct.errors import DataError, RunError, ServerError, WaitingError
from mminstruct.files import TEMPORARY, atomic_path, fsync, read_json, read_jsonl, sha256, write_json

if TYPE_CHECKING:
    import openai

_LOG = logging.getLogger(__name__)
_URL: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_ENDED = frozenset({"completed", "expired", "cancelled", "failed"})
_LATER = frozenset({"batch_expired", "batch_cancelled", "rate_limit_exceeded", "server_error"})


class BatchConfig(Config):
    """
    Attributes:
        per_file, bytes_per_file: the most questions and bytes in one file (OpenAI's limits are 50,000 and 200 MB).
        poll: seconds between two looks at a batch.
        attempts: how often a question is sent until there is a reply.
    """

    per_file: int = Field(default=50_000, ge=1)
    bytes_per_file: int = Field(default=190_000_000, ge=1)
    poll: float = Field(default=60.0, ge=0)
    attempts: int = Field(default=3, ge=1)


class BatchClient(LanguageModelClient):
    """
    Args:
        base_url: of the server; None: files are written, and somebody else has them answered.
        key_variable: the environment's variable with the secret.

    Raises:
        ConfigError: the openai package is missing, or the variable is not set.
    """

    backend = "openai"
    paid: ClassVar[bool] = False  # when a question is asked its reply is on the disk, or it waits

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        key_variable: str = "OPENAI_API_KEY",
        config: BatchConfig | None = None,
    ) -> None:
        self.model = model
        self._config = config or BatchConfig()
        self._server = None if base_url is None else connect(base_url, key_variable)
        self._queue: _Queue | None = None
        self._replies: dict[str, Completion] = {}
        self._refused: dict[str, str] = {}

    def complete(self, call: Call) -> Completion:
        """Raises `WaitingError` for a question that comes into the next file, `ServerError` for one that is refused."""
        reply = self._replies.get(call.key)
        if reply is not None:
            return reply
        if call.key in self._refused:
            raise ServerError(self._refused[call.key])
        if self._queue is None:
            raise ServerError(f"there is no reply to a request of {call.request.prompt}")
        question = {"custom_id": call.key, "method": "POST", "url": _URL, "body": body(call, self.model)}
        self._queue.add(call.key, json.dumps(question, ensure_ascii=False) + "\n")
        raise WaitingError(f"a request of {call.request.prompt} waits for its batch")

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    def rounds(self, folder: Path, log: CallLog, budget: Budget, retry: bool = False) -> Iterator[None]:
        """Each time it yields, all items are to be tried; it ends when all their questions have replies.

        Args:
            folder: where the files are, those of an earlier run too.
            retry: whether what an earlier run's servers refused is sent again.

        Raises:
            RunError: there is no server, and a file of questions is without its replies.
            DataError: a file of replies is not of its questions.
            BudgetError: a round would cost too much.
        """
        folder.mkdir(exist_ok=True)
        for half in folder.glob(f"*{TEMPORARY}"):
            half.unlink()
        forgiven = {path for path in _files(folder) if _replies(path).is_file()} if retry else set()
        try:
            while True:
                self._settle(folder, budget)
                log.flush()
                self._read_all(folder, log, budget, forgiven)
                self._queue = _Queue(folder, self._config)
                yield
                if self._queue.end() == 0:
                    return
        finally:
            self._queue = None

    def _settle(self, folder: Path, budget: Budget) -> None:
        """Send what was not sent, and wait for what was, until each file has its replies beside it."""
        waiting = [path for path in _files(folder) if not _replies(path).is_file()]
        if self._server is None:
            if waiting:
                raise RunError(
                    f"{', '.join(map(str, waiting))} wait for replies; have them answered (vllm run-batch, or your "
                    f"provider's page), put the replies to the first at {_replies(waiting[0])} and so on, and run "
                    f"again with --resume"
                )
            return
        for path in waiting:
            self._send(self._server, path, budget)
        for path in waiting:
            self._collect(self._server, path)

    def _send(self, server: openai.OpenAI, requests: Path, budget: Budget) -> None:
        note = _note(requests)
        if note.is_file():
            return
        digest = sha256(requests)
        batch = next((one for one in server.batches.list() if (one.metadata or {}).get("mminstruct") == digest), None)
        if batch is None:
            budget.take(len(_keys(requests)))
            with requests.open("rb") as stream:
                file = server.files.create(file=(requests.name, stream), purpose="batch")
            batch = server.batches.create(
                input_file_id=file.id, endpoint=_URL, completion_window="24h", metadata={"mminstruct": digest}
            )
        write_json(note, {"batch": batch.id})

    def _collect(self, server: openai.OpenAI, requests: Path) -> None:
        name = read_json(_note(requests))["batch"]
        while (batch := server.batches.retrieve(name)).status not in _ENDED:
            counts = batch.request_counts
            done = "" if counts is None else f", {counts.completed} of {counts.total}"
            _LOG.info("batch %s is %s%s", name, batch.status, done)
            time.sleep(self._config.poll)
        files = [file for file in (batch.output_file_id, batch.error_file_id) if file is not None]
        if not files:
            told = [error.message for error in (batch.errors and batch.errors.data) or []]
            raise RunError(
                f"the batch {name} of {requests} is {batch.status} ({'; '.join(filter(None, told)) or 'no reason'}); "
                f"remove {_note(requests)} to send it again with --resume"
            )
        with atomic_path(_replies(requests)) as path, path.open("wb") as stream:
            for file in files:
                stream.writelines(server.files.content(file).iter_bytes())

    def _read_all(self, folder: Path, log: CallLog, budget: Budget, forgiven: set[Path]) -> None:
        """Replies that the log does not have yet; what was refused for good is noted, other failures are not."""
        sent: Counter[str] = Counter()
        self._replies.clear()
        self._refused.clear()
        for requests in _files(folder):
            keys = _keys(requests)
            if requests not in forgiven:
                sent.update(keys)
            asked = set(keys)
            for line, value in read_jsonl(_replies(requests)):
                where = f"{_replies(requests)}:{line}"
                try:
                    answer = _Line.model_validate(value)
                except ValidationError:
                    raise DataError(f"{where} is no reply of a batch; mend or drop the line") from None
                key = answer.custom_id
                if key not in asked:
                    raise DataError(f"{where} replies to {key}, which {requests.name} does not ask; give its replies")
                asked.remove(key)
                if log.get(key) is None:
                    self._take(key, answer, budget, sent[key])
            for key in asked:
                if log.get(key) is None and sent[key] >= self._config.attempts:
                    self._refused[key] = f"the server left it without a reply {sent[key]} times"

    def _take(self, key: str, answer: _Line, budget: Budget, sent: int) -> None:
        try:
            reply = answer.reply()
        except ServerError as error:
            if sent and (not error.again or sent >= self._config.attempts):
                self._refused[key] = str(error)
            return
        self._refused.pop(key, None)
        self._replies[key] = reply
        budget.add(reply)


class _Response(BaseModel):
    status_code: int
    body: dict[str, Any]


class _Error(BaseModel):
    code: str | None = None
    message: str | None = None


class _Line(BaseModel):
    """A line of a file of replies; servers add keys of their own."""

    custom_id: str
    response: _Response | None = None
    error: _Error | None = None

    def reply(self) -> Completion:
        """Raises `ServerError` where there is none."""
        if self.response is not None and self.response.status_code == 200:
            try:
                return completion(json.dumps(self.response.body)).model_copy(update={"batch": True})
            except ValidationError:
                raise ServerError("the server replied something that is no completion", again=True) from None
        if self.response is not None and self.response.status_code:
            status = self.response.status_code
            said = json.dumps(self.response.body, ensure_ascii=False)[:200]
            raise ServerError(f"the server replied with status {status} ({said})", again=status in AGAIN)
        error = self.error or _Error()
        raise ServerError(f"no reply: {error.message or error.code or 'no reason given'}", again=error.code in _LATER)


class _Queue:
    """Files of questions that are being written, each question once. Safe for threads."""

    def __init__(self, folder: Path, config: BatchConfig) -> None:
        self._folder = folder
        self._config = config
        self._number = len(_files(folder))
        self._keys: set[str] = set()
        self._stream: TextIO | None = None
        self._lines = self._bytes = 0
        self._lock = threading.Lock()

    def add(self, key: str, line: str) -> None:
        size = len(line.encode("utf-8"))
        with self._lock:
            if key in self._keys:
                return
            full = self._lines >= self._config.per_file or self._bytes + size > self._config.bytes_per_file
            if self._stream is not None and full:
                self._publish(self._stream)
            if self._stream is None:
                self._stream = self._half.open("w", encoding="utf-8")
                self._lines = self._bytes = 0
            self._stream.write(line)
            self._keys.add(key)
            self._lines += 1
            self._bytes += size

    def end(self) -> int:
        """Give the last file its name; how many questions there are."""
        with self._lock:
            if self._stream is not None:
                self._publish(self._stream)
            return len(self._keys)

    @property
    def _half(self) -> Path:
        return self._folder / f"{self._number:04d}.requests.jsonl{TEMPORARY}"

    def _publish(self, stream: TextIO) -> None:
        stream.close()
        fsync(self._half)
        self._half.rename(self._half.with_suffix(""))
        self._number += 1
        self._stream = None


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.requests.jsonl"))


def _replies(requests: Path) -> Path:
    return requests.with_name(requests.name.replace("requests", "replies"))


def _note(requests: Path) -> Path:
    return requests.with_name(requests.name.replace("requests.jsonl", "batch.json"))


def _keys(requests: Path) -> list[str]:
    return [value["custom_id"] for _, value in read_jsonl(requests)]
