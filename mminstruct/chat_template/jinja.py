"""The `tokenizer` template: the tokenizer's own `apply_chat_template`, with exact supervised spans.

A Jinja template only returns one string. To know which characters are an answer, the messages are rendered twice:
once as they are, and once with a private mark on both sides of each content. The marked text gives the spans; with
its marks taken out it must equal the first text, otherwise the template changes what it is given (some drop earlier
reasoning) and that is an error, never a guess.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from jinja2 import TemplateError

from mminstruct.chat_template.encode import Piece
from mminstruct.chat_template.template import ChatTemplate, TemplateConfig, content_pieces
from mminstruct.conversation import Message, TextPart
from mminstruct.errors import ConfigError, DataError

# Private-use characters: no text of a data set should hold them, and one that does is refused.
OPEN, CLOSE, _IMAGE = "\uf8f0", "\uf8f1", "\uf8f2"


@contextlib.contextmanager
def rendering(whose: str) -> Iterator[None]:
    """A block in which transformers renders a Jinja template, in its sandbox.

    Raises `DataError` where the template refuses the turns, fails, or reaches for what the sandbox does not give.
    """
    try:
        yield
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TemplateError,
        TypeError,
        ValueError,
    ) as error:
        raise DataError(f"the {whose}'s chat template refuses the conversation: {error}") from None


class TokenizerTemplate(ChatTemplate):
    """`tokenizer.apply_chat_template`; the turn's end is the tokenizer's end-of-sequence token."""

    start_token = False  # the Jinja template writes it where the model wants one

    def __init__(self, config: TemplateConfig, tokenizer: Any) -> None:
        if not tokenizer.chat_template:
            raise ConfigError(
                "the chat template 'tokenizer' was asked for, but this tokenizer has none; "
                "name one of the built-in templates instead"
            )
        super().__init__(config, end=tokenizer.eos_token)
        self._tokenizer = tokenizer

    def render(self, messages: Sequence[Message], generation_prompt: bool = False) -> list[Piece]:
        if self.config.system is not None and not (messages and messages[0].role == "system"):
            messages = [Message(role="system", content=[TextPart(text=self.config.system)]), *messages]
        contents = [content_pieces(message, number) for number, message in enumerate(messages, start=-len(messages))]
        marked = self._apply(messages, [OPEN + _join(pieces) + CLOSE for pieces in contents], generation_prompt)
        text = self._apply(messages, [_join(pieces) for pieces in contents], generation_prompt)
        if marked.replace(OPEN, "").replace(CLOSE, "") != text:
            raise DataError(
                "the tokenizer's chat template changes the content of a message (it strips or drops part of it), so "
                "its answers cannot be told apart exactly; trim the texts or choose a built-in template"
            )
        pieces: list[Piece] = []
        rest = marked
        for number, (message, content) in enumerate(zip(messages, contents, strict=True), start=-len(messages)):
            before, found, rest = rest.partition(OPEN)
            inside, closed, rest = rest.partition(CLOSE)
            if not found or not closed or inside != _join(content):
                raise DataError(
                    f"the tokenizer's chat template drops a {message.role!r} message; choose a built-in template"
                )
            pieces += [Piece(before), *content]
            if message.role == "assistant":
                tail, rest = self._end_of_turn(rest)
                pieces.append(Piece(tail, supervised=True, turn=number))
        return [*pieces, Piece(rest)]

    def _apply(self, messages: Sequence[Message], texts: list[str], generation_prompt: bool) -> str:
        turns = [{"role": message.role, "content": text} for message, text in zip(messages, texts, strict=True)]
        with rendering("tokenizer"):
            rendered: str = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=generation_prompt, **self.config.variables
            )
            return rendered

    def _end_of_turn(self, rest: str) -> tuple[str, str]:
        until = rest.find(OPEN) if OPEN in rest else len(rest)
        cut = end_of_turn(rest[:until], self._tokenizer.all_special_tokens)
        return rest[:cut], rest[cut:]


def end_of_turn(rest: str, special_tokens: Iterable[str]) -> int:
    """Where a turn ends in what follows its answer: behind the first special token, or the first line without one."""
    ends = [position + len(token) for token in special_tokens if (position := rest.find(token)) >= 0]
    return min(ends) if ends else rest.find("\n") + 1 or len(rest)


def _join(pieces: Sequence[Piece]) -> str:
    for piece in pieces:
        if any(mark in piece.text for mark in (OPEN, CLOSE, _IMAGE)):
            raise DataError("a text holds a character of the private-use range U+F8F0..U+F8F2; remove it")
    return "".join(piece.text if piece.image is None else _IMAGE for piece in pieces)
