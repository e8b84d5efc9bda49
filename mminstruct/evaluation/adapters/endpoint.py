"""Answers of a server that speaks OpenAI's chat API (vLLM, SGLang, llama.cpp, OpenAI itself).

    request ─ pictures as files within limits ─▶ call ─ many at once ─▶ the builders' client ─▶ reply, as it comes
                                                          └ again on 429, 5xx and silence (`building.sending`)

Pictures go as data URIs, a video as its frames. A question that fails for good stops the run, once the replies that are
on their way have come and are kept; with `skip` it counts as missing instead and is asked again by the next run.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from pydantic import Field

from mminstruct.building.asking import AskingConfig
from mminstruct.building.clients import Call, OpenAICompatibleClient
from mminstruct.building.clients.chat_api import shown
from mminstruct.building.limits import Budget, BudgetConfig, Rate, RateConfig
from mminstruct.building.request import Completion, Parameters
from mminstruct.building.request import Request as Question
from mminstruct.building.sending import Sender
from mminstruct.config import Config
from mminstruct.conversation import ImagePart, Media, Message, Part, TextPart
from mminstruct.errors import ConfigError, MminstructError, ServerError
from mminstruct.evaluation.adapters import Adapter
from mminstruct.evaluation.requests import Reply, Request, first_stop
from mminstruct.files import bytes_sha256
from mminstruct.media import FrameSampling, Video, image_suffix
from mminstruct.media.encode_picture import encode_picture

log = logging.getLogger(__name__)

_SENT_AS_THEY_ARE = (".jpeg", ".png", ".webp")  # what servers are sure to read
# Orientation stands in EXIF, which a server may or may not obey, so a picture that has any is written anew, upright.
_EXIF = (b"Exif\0\0", b"eXIf", b"EXIF")
_LISTED = 20  # first tokens that servers say the log probability of, at most


class EndpointConfig(Config):
    """
    Attributes:
        concurrency: questions that are on their way at once.
        on_error: what becomes of a question that fails for good.
        asking: how often it is sent, and how long is waited between.
        rate: what the server allows a minute.
        max_pixels, max_bytes: of a picture, beyond which a smaller one is sent.
        sampling: which frames of a video are sent.
    """

    concurrency: int = Field(default=8, ge=1)
    on_error: Literal["raise", "skip"] = "raise"
    asking: AskingConfig = AskingConfig(stop_unanswered=False)
    rate: RateConfig = RateConfig()
    max_pixels: int = Field(default=4_000_000, ge=1)
    max_bytes: int = Field(default=15_000_000, ge=1)
    sampling: FrameSampling = FrameSampling()


class EndpointAdapter(Adapter):
    """Asks one model of one or more servers.

    Args:
        base_urls: as the client has them; what they hold beside host, port and path is never written anywhere.
    """

    def __init__(
        self,
        client: OpenAICompatibleClient,
        base_urls: Sequence[str],
        config: EndpointConfig | None = None,
        *,
        keep: bool = True,
    ) -> None:
        self._client = client
        self._config = config or EndpointConfig()
        self._where = ", ".join(sorted(shown(url) for url in base_urls))
        self._keep = keep

    @property
    def identity(self) -> Mapping[str, str] | None:
        """The name and the address are all that is known of the model: it may change behind them."""
        if not self._keep:
            return None
        limits = f"at most {self._config.max_pixels} pixels and {self._config.max_bytes} bytes"
        return {
            "adapter": "endpoint",
            "server": self._where,
            "model": self._client.model,
            "pictures": f"{limits}; {self._config.sampling.model_dump_json()}",
        }

    def facts(self) -> dict[str, Any]:
        return {"model": self._client.model, "server": self._where, "chat_template": "the server's"}

    def answer(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, Reply]]]:
        """Raises `ConfigError` too: where the server refuses every question, or has no `logprobs` for choices."""
        sender = Sender(self._client, self._config.asking, Budget(BudgetConfig()), Rate(self._config.rate))
        with tempfile.TemporaryDirectory(prefix="mminstruct-") as folder:
            pool = ThreadPoolExecutor(self._config.concurrency, thread_name_prefix="eval")
            try:
                yield from _Flight(self._config, pool, sender, self._calls(requests, Path(folder)), self._reply).fly()
            finally:
                sender.stop()
                pool.shutdown(cancel_futures=True)

    # ---- questions ---------------------------------------------------------------------------------------------------

    def _calls(self, requests: Sequence[Request], folder: Path) -> Iterator[tuple[int, Request, Call]]:
        """Each distinct medium is opened once: requests about the same stand together."""
        last: tuple[Any, ...] = ()
        sent: list[list[Media]] = []
        for place, request in enumerate(requests):
            media = (request.blank, [(medium.kind, medium.path) for medium in request.conversation.media])
            if media != last:
                opened = request.open(self._config.sampling)
                sources = [None if request.blank else Path(one.path) for one in request.conversation.media]
                sent = [self._sent(one, source, folder) for one, source in zip(opened, sources, strict=True)]
                last = media
            yield place, request, self._call(request, sent, folder)

    def _call(self, request: Request, sent: Sequence[Sequence[Media]], folder: Path) -> Call:
        pictures: list[Media] = []
        messages = []
        for one in request.conversation.messages:
            parts: list[Part] = []
            for part in one.content:
                if isinstance(part, TextPart):
                    parts.append(part)
                    continue
                parts += [ImagePart(index=len(pictures) + number) for number in range(len(sent[part.index]))]
                pictures += sent[part.index]
            messages.append(Message(role=one.role, content=parts))
        question = Question(
            messages=messages,
            media=pictures,
            parameters=Parameters(temperature=0, max_tokens=1 if request.choices else request.max_new_tokens),
            prompt="eval",
        )
        further: dict[str, Any] = {"logprobs": True, "top_logprobs": _LISTED} if request.choices else {}
        if request.stop:
            further["stop"] = list(request.stop)
        asked = question.key(self._client.backend, self._client.model)
        return Call(bytes_sha256(f"{asked} {sorted(further.items())}".encode()), question, folder, further=further)

    def _sent(self, opened: Image.Image | Video, source: Path | None, folder: Path) -> list[Media]:
        """The pictures that are sent of a medium: its own file where that can be, else files in `folder`."""
        if isinstance(opened, Video):
            return [self._written(frame, folder) for frame in opened.frames]
        if source is not None and opened.width * opened.height <= self._config.max_pixels:
            data = source.read_bytes()
            plain = image_suffix(data) in _SENT_AS_THEY_ARE and not any(mark in data for mark in _EXIF)
            if plain and len(data) <= self._config.max_bytes:
                return [Media(path=str(source.absolute()), sha256=bytes_sha256(data))]
        return [self._written(opened, folder)]

    def _written(self, picture: Image.Image, folder: Path) -> Media:
        """Raises `MediaError` where the picture is too large to be sent."""
        data = encode_picture(picture, self._config.max_pixels, self._config.max_bytes)
        digest = bytes_sha256(data)
        (folder / digest).write_bytes(data)
        return Media(path=digest, sha256=digest)

    # ---- replies -----------------------------------------------------------------------------------------------------

    def _reply(self, request: Request, said: Completion) -> Reply:
        _, written = said.tokens
        if request.choices:
            return self._choice(request, said, written)
        text, cut = said.text.strip(), said.finish == "length"
        place = first_stop(text, request.stop)  # a server may leave the stop text, or know of none
        if place is not None:
            text, cut = text[:place].strip(), False
        return Reply(text=text, tokens=written, finish="length" if cut else "end")

    def _choice(self, request: Request, said: Completion, written: int) -> Reply:
        """The most probable of the choices that are among the listed first tokens; nothing where none is."""
        if said.first_token is None:
            raise ConfigError(
                f"{self._where} gives no logprobs of {self._client.model}, which a first-token protocol needs; "
                "use a protocol that generates"
            )
        scores: dict[str, float] = {}
        for token, chance in said.first_token.items():
            choice = token.strip()
            if choice in request.choices:  # " A" and "A" are two tokens of one choice
                scores[choice] = max(chance, scores.get(choice, chance))
        best = max(request.choices, key=lambda choice: scores.get(choice, float("-inf"))) if scores else ""
        return Reply(text=best, tokens=written, finish="choice", scores=scores)


class _Flight:
    """Questions on their way: as many as are allowed, each reply handed on as soon as it is there."""

    def __init__(
        self,
        config: EndpointConfig,
        pool: ThreadPoolExecutor,
        sender: Sender,
        calls: Iterator[tuple[int, Request, Call]],
        read: Any,
    ) -> None:
        self._config = config
        self._pool = pool
        self._sender = sender
        self._calls = calls
        self._read = read
        self._waiting: dict[Future[Reply], int] = {}
        self._failure: BaseException | None = None

    def fly(self) -> Iterator[list[tuple[int, Reply]]]:
        while True:
            try:
                self._start()
                if not self._waiting:
                    break
                done, _ = wait(self._waiting, return_when=FIRST_COMPLETED)
            except (MminstructError, KeyboardInterrupt) as error:
                self._fail(error)
                done, _ = wait(self._waiting)  # what is on its way is paid for: it is waited for, and kept
            if replies := [reply for future in done for reply in self._landed(future)]:
                yield replies
        if self._failure is not None:
            raise self._failure

    def _start(self) -> None:
        while self._failure is None and len(self._waiting) < self._config.concurrency:
            found = next(self._calls, None)
            if found is None:
                return
            place, request, call = found
            self._waiting[self._pool.submit(self._one, request, call)] = place

    def _one(self, request: Request, call: Call) -> Reply:
        try:
            said = self._sender.send(call)
        except ServerError as error:
            if self._config.on_error == "raise" or self._failure is not None:
                raise
            log.warning("%s counts as missing: %s", request.conversation.id, error)
            return Reply(text="", tokens=0, finish="missing")
        reply: Reply = self._read(request, said)
        return reply

    def _landed(self, future: Future[Reply]) -> list[tuple[int, Reply]]:
        place = self._waiting.pop(future)
        try:
            return [(place, future.result())]
        except MminstructError as error:
            self._fail(error)
            return []

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
            self._sender.stop()
