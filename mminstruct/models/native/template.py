"""The chat template of a transformers processor, with exact supervised spans.

    messages ─apply_chat_template─▶ text, one placeholder per image ─marks, generation prompts─▶ pieces

As for a tokenizer's template, a second rendering with private marks says where each text stands. Here the marks stand
inside the outer white space of each text, because some of these templates trim (Gemma's does) and many look at the
first item of a message. What the model must write begins where the generation prompt of the turns before it ends.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from transformers import ProcessorMixin

from mminstruct.chat_template import ChatTemplate, Piece, TemplateConfig
from mminstruct.chat_template.jinja import CLOSE, OPEN, end_of_turn, rendering
from mminstruct.conversation import ImagePart, Message, TextPart
from mminstruct.errors import ConfigError, DataError

NAME = "processor"

Span = tuple[int, int]


class NativeTemplate(ChatTemplate):
    """`processor.apply_chat_template`; the turn's end is what the template writes behind an answer.

    Attributes:
        image_token: the text that stands for one image before the processor expands it.
    """

    start_token = False  # the processor adds it, or the template has written it

    def __init__(self, config: TemplateConfig, processor: ProcessorMixin) -> None:
        if config.name != NAME:
            raise ConfigError(
                f"a native model speaks by its processor's own chat template, not by {config.name!r}; "
                f"leave chat_template out, or name it {NAME!r}"
            )
        if not processor.chat_template:
            raise ConfigError(
                f"this {type(processor).__name__} has no chat template; "
                "put the one the model was trained with into chat_template.jinja of its folder"
            )
        self.image_token = placeholder(processor)
        self._processor = processor
        self._special = [token.content for token in processor.tokenizer.added_tokens_decoder.values() if token.special]
        super().__init__(config, end="")
        self.end = self._written_end()

    def render(self, messages: Sequence[Message], generation_prompt: bool = False) -> list[Piece]:
        turns = [_with_text(message) for message in self._with_system(messages)]
        text, contents = self._render(turns, generation_prompt)
        marked: list[tuple[Span, Piece]] = []
        for index, turn in enumerate(turns):
            number = index - len(turns)
            if turn.role == "assistant":
                answer = self._answer(turns[:index], text, contents, index)
                marked.append((answer, Piece(supervised=True, turn=number)))
            elif turn.role == "user":
                marked += [(span, Piece(instruction=True, turn=number)) for span in contents[index]]
        return self._pieces(text, marked, [part.index for turn in turns for part in _images(turn)])

    def _with_system(self, messages: Sequence[Message]) -> list[Message]:
        if self.config.system is not None and not (messages and messages[0].role == "system"):
            return [Message(role="system", content=[TextPart(text=self.config.system)]), *messages]
        return list(messages)

    def _render(self, turns: Sequence[Message], generation_prompt: bool) -> tuple[str, list[list[Span]]]:
        """The rendered turns, and from where to where each text of each stands, outer white space left out.

        Raises:
            DataError: the template changes or drops a text, or refuses the turns.
        """
        text = self._apply(turns, generation_prompt, marked=False)
        marked = self._apply(turns, generation_prompt, marked=True)
        if marked.replace(OPEN, "").replace(CLOSE, "") != text:
            raise DataError(
                "the processor's chat template changes the content of a message, so its answers cannot be told apart "
                "exactly; use another chat template for this model"
            )
        found: list[list[Span]] = []
        plain, rest = 0, marked
        for turn in turns:
            spans = []
            for part in (part for part in turn.content if isinstance(part, TextPart)):
                before, opened, rest = rest.partition(OPEN)
                inside, closed, rest = rest.partition(CLOSE)
                if not opened or not closed or inside != part.text.strip():
                    raise DataError(
                        f"the processor's chat template drops or moves a text of a {turn.role!r} message; "
                        "join the texts of each message, or use another chat template for this model"
                    )
                spans.append((plain + len(before), plain + len(before) + len(inside)))
                plain = spans[-1][1]
            found.append(spans or [(plain, plain)])
        return text, found

    def _apply(self, turns: Sequence[Message], generation_prompt: bool, marked: bool) -> str:
        """The text that the processor's template makes. A message without a text is none of its own making."""
        rows: Any = [{"role": turn.role, "content": [_item(part, marked) for part in turn.content]} for turn in turns]
        with rendering("processor"):
            rendered: str = self._processor.apply_chat_template(
                rows, tokenize=False, add_generation_prompt=generation_prompt, **self.config.variables
            )
            return rendered

    def _answer(self, before: Sequence[Message], text: str, contents: Sequence[Sequence[Span]], index: int) -> Span:
        """What of the rendered text the model has to write in turn `index`.

        It begins behind the generation prompt of the turns before. Where the template does not go on from its own
        generation prompt (some write another white space there), it begins with the answer's own first character.
        """
        first, last = contents[index][0][0], contents[index][-1][1]
        prompt = self._apply(before, generation_prompt=True, marked=False) if before else ""
        start = len(prompt) if before and text.startswith(prompt) else first
        until = contents[index + 1][0][0] if index + 1 < len(contents) else len(text)
        return start, last + end_of_turn(text[last:until], self._special)

    def _pieces(self, text: str, marked: Sequence[tuple[Span, Piece]], images: Sequence[int]) -> list[Piece]:
        """The rendered text in pieces, those in a marked span as its piece says."""
        places = [match.span() for match in re.finditer(re.escape(self.image_token), text)]
        if len(places) != len(images):
            raise DataError(
                f"the prompt has {len(places)} times {self.image_token!r} for {len(images)} images; "
                "a text holds the image token itself, take it out or escape it"
            )
        index_at = {start: index for (start, _), index in zip(places, images, strict=True)}
        cuts = sorted({0, len(text), *(edge for span in [*places, *(span for span, _ in marked)] for edge in span)})
        return [
            Piece(image=index_at[start])
            if start in index_at
            else replace(
                next((piece for (low, high), piece in marked if low <= start and end <= high), Piece()),
                text=text[start:end],
            )
            for start, end in itertools.pairwise(cuts)
        ]

    def _written_end(self) -> str:
        """What the template writes behind an answer, up to the mark that ends the turn."""
        turns = [Message(role=role, content=[TextPart(text="a")]) for role in ("user", "assistant")]
        text, contents = self._render(turns, generation_prompt=False)
        last = contents[1][-1][1]
        return text[last : self._answer(turns[:1], text, contents, 1)[1]]


def placeholder(processor: ProcessorMixin) -> str:
    """The text that the processor replaces by an image's tokens. Raises `ConfigError` where it has none."""
    token = getattr(processor, "image_token", None)  # transformers' own convention; not every processor keeps it
    if not isinstance(token, str):
        raise ConfigError(
            f"{type(processor).__name__} names no image token, so the places of its images cannot be found; "
            "this family cannot be used as a native model yet"
        )
    return token


def _images(message: Message) -> list[ImagePart]:
    return [part for part in message.content if isinstance(part, ImagePart)]


def _with_text(message: Message) -> Message:
    """An answer of no words still has a place and an end."""
    if message.role != "assistant" or any(isinstance(part, TextPart) for part in message.content):
        return message
    return Message(role=message.role, content=[*message.content, TextPart(text="")])


def _item(part: Any, marked: bool) -> dict[str, str]:
    """A part as transformers' templates take it, its text between marks where they are wanted."""
    if isinstance(part, ImagePart):
        return {"type": "image"}
    if not isinstance(part, TextPart):
        raise DataError("a video part cannot be rendered yet; sample it as frames (image parts) first")
    if OPEN in part.text or CLOSE in part.text:
        raise DataError("a text holds a character of the private-use range U+F8F0..U+F8F1; remove it")
    if not marked:
        return {"type": "text", "text": part.text}
    inside = part.text.strip()
    left = part.text[: len(part.text) - len(part.text.lstrip())]
    right = part.text[len(left) + len(inside) :]
    return {"type": "text", "text": f"{left}{OPEN}{inside}{CLOSE}{right}"}
