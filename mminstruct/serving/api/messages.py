"""From a chat request to what an engine is asked: a `Conversation`, its media, the settings.

ChatRequest, gate ─question─▶ Conversation, [picture or video, ...]
ChatRequest, context length ─settings─▶ GenerationSettings

Chat templates want one system text in front, then user and assistant in turn. So system texts that open a request
become one, and neighbours of one role become one turn, with a blank line between them. Media stay where they stood
among the text, in an assistant's turns too. Texts that meet become one part, because special tokens are looked for in
each part by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from mminstruct.conversation import Conversation, ImagePart, Media, Message, Part, TextPart, VideoPart
from mminstruct.errors import MediaError
from mminstruct.media import Video
from mminstruct.serving.api import schema
from mminstruct.serving.api.errors import ApiError
from mminstruct.serving.settings import GenerationSettings

if TYPE_CHECKING:
    from PIL.Image import Image

Kind = Literal["image", "video"]
Open = Callable[[Kind, str], "Image | Video"]
Question = tuple[Conversation, "list[Image | Video]"]

# OpenAI's defaults, where a request says nothing.
TEMPERATURE = 1.0
LONGEST = 512  # tokens, where nobody knows how long the model's context is
BETWEEN = "\n\n"
# No tokenizer's tokens are longer on average, whatever the text; a longer text is refused before it is read.
CHARACTERS_PER_TOKEN = 64


def question(request: schema.ChatRequest, open_medium: Open) -> Question:
    """The record that asks for an answer to the last user turn, and its media in order.

    Args:
        open_medium: opens what a URL of a kind stands for; called once for each place, in order.

    Raises:
        ApiError: the roles do not make a conversation, or a medium is refused; the message says which.
    """
    _require_order([message.role for message in request.messages])
    turns: list[Message] = []
    media: list[Image | Video] = []
    for number, message in enumerate(request.messages):
        role: Literal["system", "user", "assistant"] = "system" if message.role == "developer" else message.role
        content = [
            _part(part, f"messages[{number}].content[{place}]", open_medium, media)
            for place, part in enumerate(message.content)
        ]
        if turns and turns[-1].role == role:
            turns[-1] = Message(role=role, content=_joined([*turns[-1].content, TextPart(text=BETWEEN), *content]))
        else:
            turns.append(Message(role=role, content=_joined(content)))
    if not turns[-1].text.strip() and all(isinstance(part, TextPart) for part in turns[-1].content):
        raise ApiError("messages: the last user message is empty; ask something or send a picture", param="messages")
    turns = [_stripped(turn) if turn.role == "assistant" else turn for turn in turns]
    return Conversation(id="chat", messages=turns, media=list(map(_record, media, range(len(media))))), media


def settings(request: schema.ChatRequest, context_length: int | None, max_seconds: float | None) -> GenerationSettings:
    """How the answer is drawn. Without a number of tokens the answer may fill the context.

    Raises:
        ApiError: a value is out of its range, or more tokens are asked for than the context has.
    """
    asked = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
    tokens_field = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
    if asked is not None and context_length is not None and asked > context_length:
        raise ApiError(
            f"{tokens_field} is {_number(asked)}, but this model's context has {context_length} tokens, the "
            f"conversation's included; ask for fewer, or leave it out",
            param=tokens_field,
            error_code="context_length_exceeded",
        )
    if request.top_logprobs is not None and not request.logprobs:
        raise ApiError("top_logprobs: this field wants logprobs to be true", param="top_logprobs")
    wanted = {
        "max_new_tokens": (context_length or LONGEST) if asked is None else asked,
        "temperature": TEMPERATURE if request.temperature is None else request.temperature,
        "top_p": request.top_p,
        "top_k": 0 if request.top_k == -1 else request.top_k,  # vLLM's word for all
        "min_p": request.min_p,
        "repetition_penalty": request.repetition_penalty,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "logit_bias": request.logit_bias,
        "stop": None if request.stop is None else tuple(request.stop),
        # OpenAI's seeds are signed.
        "seed": request.seed + 2**63 if request.seed is not None and -(2**63) <= request.seed < 0 else request.seed,
        "logprobs": (request.top_logprobs or 0) if request.logprobs else None,
        "response_schema": None if request.response_format is None else request.response_format.schema_text,
        "max_seconds": max_seconds,
    }
    names = {"max_new_tokens": tokens_field, "logprobs": "top_logprobs", "response_schema": "response_format"}
    try:
        return GenerationSettings.model_validate({name: value for name, value in wanted.items() if value is not None})
    except ValidationError as error:
        raise schema.invalid(error, names) from None


def require_readable(request: schema.ChatRequest, context_length: int | None) -> None:
    """Refuse texts that no tokenizer would get into the context, before anything is done with them.

    Raises:
        ApiError: as OpenAI words it, with the code `context_length_exceeded`.
    """
    if context_length is None:
        return
    texts = (part.text for message in request.messages for part in message.content if isinstance(part, schema.TextPart))
    characters = sum(map(len, texts))
    if characters > CHARACTERS_PER_TOKEN * context_length:
        raise ApiError(
            f"the conversation has {characters} characters of text, far more than fit into this model's context of "
            f"{context_length} tokens; send less text",
            param="messages",
            error_code="context_length_exceeded",
        )


def _require_order(roles: Sequence[str]) -> None:
    first = next((at for at, role in enumerate(roles) if role not in ("system", "developer")), len(roles))
    late = next((at for at, role in enumerate(roles[first:], first) if role in ("system", "developer")), None)
    if late is not None:
        raise ApiError(
            f"messages[{late}]: a {roles[late]} message stands behind the first {roles[first]} message; put all of "
            f"them in front",
            param=f"messages[{late}].role",
        )
    if roles[-1] != "user":
        raise ApiError(
            f"messages: the last one is of the role {roles[-1]}, but the model answers a user; end with a user message",
            param="messages",
        )


def _part(part: schema.Part, where: str, open_medium: Open, media: list[Image | Video]) -> Part:
    """A part of the record; a medium goes to the end of `media`."""
    if isinstance(part, schema.TextPart):
        return TextPart(text=part.text)
    kind: Kind = "image" if isinstance(part, schema.ImagePart) else "video"
    url = part.image_url.url if isinstance(part, schema.ImagePart) else part.video_url.url
    try:
        medium = open_medium(kind, url)
    except MediaError as error:
        raise ApiError(f"{where}: {error}", param=f"{where}.{part.type}.url", error_code="media") from None
    media.append(medium)
    return VideoPart(index=len(media) - 1) if kind == "video" else ImagePart(index=len(media) - 1)


def _joined(parts: Sequence[Part]) -> list[Part]:
    """The parts with texts that meet made one, and no empty text."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, TextPart) and isinstance(last, TextPart):
            joined[-1] = TextPart(text=last.text + part.text)
        elif not (isinstance(part, TextPart) and not part.text):
            joined.append(part)
    return joined or [TextPart(text="")]


def _stripped(turn: Message) -> Message:
    """An answer without outer white space, as it was trained on and as chats keep it."""
    content = list(turn.content)
    if isinstance(content[0], TextPart):
        content[0] = TextPart(text=content[0].text.lstrip())
    if isinstance(content[-1], TextPart):
        content[-1] = TextPart(text=content[-1].text.rstrip())
    return Message(role=turn.role, content=content)


def _record(medium: Image | Video, number: int) -> Media:
    width, height = medium.size
    if isinstance(medium, Video):
        times = list(medium.timestamps)
        return Media(kind="video", path=f"video-{number}", width=width, height=height, timestamps=times)
    return Media(path=f"image-{number}", width=width, height=height)


def _number(value: int) -> str:
    return str(value) if value < 10**12 else "more than 10^12"
