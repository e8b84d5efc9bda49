"""A small server of OpenAI's files and batches on loopback: a batch is done at the second look at it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from tests.building.loopback import Handler, Server, running

Outcome = dict[str, Any]


def good(content: str, finish: str = "stop") -> Outcome:
    """The rest of a line whose question was answered."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
    body = {"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}
    return {"response": {"status_code": 200, "request_id": "r", "body": body}, "error": None}


def refused(status: int) -> Outcome:
    body = {"error": {"message": "no"}}
    return {"response": {"status_code": status, "request_id": "r", "body": body}, "error": None}


EXPIRED: Outcome = {"response": None, "error": {"code": "batch_expired", "message": "too late"}}


class BatchServer(Server):
    """
    Args:
        outcome: of a question's body and of how often it was sent.
    """

    def __init__(self, outcome: Callable[[dict[str, Any], int], Outcome]) -> None:
        super().__init__(_Handler)
        self.outcome = outcome
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.sent: Counter[str] = Counter()
        self.forget_answer = False  # drop the connection once when a batch is made, as if the asker were killed then
        self.headers: list[str] = []

    def questions(self) -> list[list[dict[str, Any]]]:
        """The lines of each batch."""
        files = [self.files[batch["input_file_id"]] for batch in self.batches.values()]
        return [[json.loads(line) for line in data.splitlines()] for data in files]

    def work(self, batch: dict[str, Any]) -> None:
        lines: dict[bool, list[str]] = {True: [], False: []}
        for line in reversed(self.files[batch["input_file_id"]].splitlines()):  # in no order, as it is at OpenAI
            question = json.loads(line)
            key = question["custom_id"]
            self.sent[key] += 1
            outcome = self.outcome(question["body"], self.sent[key])
            found = outcome["error"] is None and outcome["response"]["status_code"] == 200
            lines[found].append(json.dumps({"id": f"batch_req_{key[:5]}", "custom_id": key} | outcome))
        for found, name in ((True, "output_file_id"), (False, "error_file_id")):
            if lines[found]:
                batch[name] = f"file-{len(self.files)}"
                self.files[batch[name]] = ("\n".join(lines[found]) + "\n").encode()
        batch["status"] = "completed"


class _Handler(Handler):
    server: BatchServer

    def do_POST(self) -> None:  # noqa: N802 - as http.server calls it
        data = self.body()
        self.server.headers.append(self.headers["Authorization"])
        if self.path == "/v1/files":
            boundary = self.headers["Content-Type"].partition("boundary=")[2].encode()
            part = next(part for part in data.split(b"--" + boundary) if b"filename=" in part)
            name = f"file-{len(self.server.files)}"
            self.server.files[name] = part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
            self.give_json(
                {"id": name, "object": "file", "purpose": "batch", "bytes": 1, "created_at": 1, "filename": "f"}
            )
            return
        order = json.loads(data)
        batch = {"id": f"batch_{len(self.server.batches)}", "object": "batch", "status": "validating", "created_at": 1}
        batch |= {key: order[key] for key in ("input_file_id", "endpoint", "completion_window", "metadata")}
        self.server.batches[batch["id"]] = batch
        if self.server.forget_answer:
            self.close_connection = True
            return
        self.give_json(batch)

    def do_GET(self) -> None:  # noqa: N802 - as http.server calls it
        kind, *rest = self.path.removeprefix("/v1/").partition("?")[0].split("/")
        if kind == "files":
            self.give(self.server.files[rest[0]], Content_Type="application/binary")
        elif not rest:
            self.give_json({"object": "list", "data": list(self.server.batches.values()), "has_more": False})
        else:
            batch = self.server.batches[rest[0]]
            if batch["status"] == "in_progress":
                self.server.work(batch)
            if batch["status"] == "validating":
                batch["status"] = "in_progress"
            self.give_json(batch)


def serving_batches(
    outcome: Callable[[dict[str, Any], int], Outcome],
) -> AbstractContextManager[BatchServer]:
    return running(BatchServer(outcome))
