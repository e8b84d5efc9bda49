"""What a chat template is: messages in, pieces of the prompt out, each marked as supervised or not.

    messages ──render──▶ [Piece("USER: ", …), Piece(image 0), Piece(" blue</s>", supervised) …] ──encode──▶ ids, labels

One rule decides what is supervised, for every template: exactly what the model must write itself, that is everything
after the generation prompt up to and including the mark that ends the turn. So training supervises what generation asks
for, character by character; `Supervision` says what a stage may take in beside it. Images are places of their own and
never a piece of text, so text that happens to hold `<image>` places nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from mminstruct.chat_template.encode import RESPONSE, EncodedPrompt, Piece, Supervision, encode
from mminstruct.config import Config
from mminstruct.conversation import Message, TextPart
from mminstruct.errors import DataError


class TemplateConfig(Config):
    """A template as a recipe, a zoo row or a checkpoint names it; `system` replaces the template's own text."""

    name: str
    system: str | None = None
    # What stands around the place of each picture or video, `{}` being the place; default: the template's own. Where
    # two places are neighbours and the text between them would be the same twice, it stands there once.
    image_format: str | None = None
    # `tokenizer` templates only: variables for the tokenizer's Jinja template, such as `enable_thinking: false`.
    variables: dict[str, Any] = Field(default_factory=dict)

    @field_validator("image_format")
    @classmethod
    def _one_place(cls, image_format: str | None) -> str | None:
        if image_format is not None and image_format.count("{}") != 1:
            raise ValueError("{} must stand in it once, for the place of the image")
        return image_format


class ChatTemplate(ABC):
    """Renders messages as one prompt.

    Attributes:
        config: the name and settings that rebuild this template; saved in every checkpoint.
        end: the text that ends an assistant's turn; generation stops there.
        start_token: whether the tokenizer's own beginning-of-sequence token goes in front of the prompt.
        image_format: what stands around the place of each medium, `{}` being the place.
        start_behind_images: whether images that the prompt begins with stand in front of that token.
    """

    start_token = True
    start_behind_images = False

    def __init__(self, config: TemplateConfig, end: str, image_format: str = "{}") -> None:
        self.config = config
        self.end = end
        self.image_format = image_format if config.image_format is None else config.image_format

    @abstractmethod
    def render(self, messages: Sequence[Message], generation_prompt: bool = False) -> list[Piece]:
        """The prompt in pieces, in order.

        Args:
            messages: the turns; roles as the template allows them.
            generation_prompt: end with what makes the model answer, supervised nothing after it.

        Raises:
            DataError: the roles or contents do not fit the template.
        """

    def encode(
        self,
        messages: Sequence[Message],
        tokenizer: Any,
        generation_prompt: bool = False,
        supervision: Supervision = RESPONSE,
    ) -> EncodedPrompt:
        """Token ids and labels of the rendered messages; see `mminstruct.chat_template.encode`."""
        pieces = around_images(self.render(messages, generation_prompt), self.image_format)
        return encode(pieces, tokenizer, self.start_token, self.start_behind_images, supervision)


def around_images(pieces: Sequence[Piece], image_format: str) -> list[Piece]:
    """Put the text of a format around each image; no one writes it, so it is never supervised."""
    before, _, after = image_format.partition("{}")
    result: list[Piece] = []
    neighbour = False  # whether an image is what stands last in `result`, but for its own text
    for piece in pieces:
        if piece.image is not None:
            shared = neighbour and before == after
            result += [Piece("" if shared else before), piece, Piece(after)]
            neighbour = True
        else:
            result.append(piece)
            neighbour = neighbour and not piece.text
    return result


def content_pieces(message: Message, turn: int = 0) -> list[Piece]:
    """A message's parts as pieces, verbatim and in place.

    Args:
        turn: which message of the conversation it is, as `Piece` counts them.
    """
    answer, instruction = message.role == "assistant", message.role == "user"
    return [
        Piece(part.text, answer, instruction=instruction, turn=turn)
        if isinstance(part, TextPart)
        else Piece(image=part.index)
        for part in message.content
    ]


class RoundsTemplate(ChatTemplate):
    """A template that is a row of fixed strings around system, user and assistant texts.

    The prompt is `system_format` filled in, then for every user turn `user_format`, for every assistant turn
    `assistant_prompt + assistant_lead + answer + answer_tail + end + after_end`; supervised are `assistant_lead` to
    `end`. The generation prompt is `assistant_prompt`. `user_text_lead` stands in front of a user's content that begins
    with text, and not of one that begins with an image.
    """

    def __init__(self, config: TemplateConfig, rounds: Rounds) -> None:
        super().__init__(config, rounds.end, rounds.image_format)
        self.rounds = rounds
        self.start_behind_images = rounds.start_behind_images

    def render(self, messages: Sequence[Message], generation_prompt: bool = False) -> list[Piece]:
        rounds = self.rounds
        default = rounds.system if self.config.system is None else self.config.system
        system: list[Piece] = [Piece(default)] if default else []
        turns = list(messages)
        if turns and turns[0].role == "system":
            system = content_pieces(turns.pop(0))
        if rounds.alternate:
            _require_alternating(turns, self.config.name)
        pieces: list[Piece] = []
        if system and rounds.system_place == "before":
            pieces += _around(rounds.system_format, system)
        for index, turn in enumerate(turns):
            number = index - len(turns)
            content = content_pieces(turn, number)
            if turn.role == "user":
                while rounds.leading_images_first and content and content[0].image is not None:
                    pieces.append(content.pop(0))
                if content and content[0].image is None:
                    content = [Piece(rounds.user_text_lead), *content]
                if index == 0 and system and rounds.system_place == "first_user":
                    content = [*_around(rounds.system_format, system), *content]
                pieces += _around(rounds.user_format if index == 0 else rounds.later_user_format, content)
            elif turn.role == "assistant":
                pieces.append(Piece(rounds.assistant_prompt))
                pieces.append(Piece(rounds.assistant_lead, supervised=True, turn=number))
                pieces += content
                pieces.append(Piece(rounds.answer_tail + rounds.end, supervised=True, turn=number))
                pieces.append(Piece(rounds.after_end))
            else:
                raise DataError(f"the template {self.config.name!r} has no place for a {turn.role!r} message here")
        if generation_prompt:
            pieces.append(Piece(rounds.assistant_prompt))
        return pieces


class Rounds(Config):
    """The strings of a `RoundsTemplate`; `{}` in a format is the place of the content.

    Attributes:
        leading_images_first: images that a user turn begins with stand in front of the turn's format.
    """

    system: str = ""
    system_place: Literal["before", "first_user"] = "before"
    system_format: str = "{}"
    user_format: str
    later_user_format: str
    user_text_lead: str = ""
    image_format: str = "{}"
    assistant_prompt: str
    assistant_lead: str = ""
    answer_tail: str = ""
    end: str
    after_end: str = ""
    alternate: bool = True
    start_behind_images: bool = False
    leading_images_first: bool = False


def _around(format_text: str, content: list[Piece]) -> list[Piece]:
    before, _, after = format_text.partition("{}")
    return [Piece(before), *content, Piece(after)]


def _require_alternating(turns: Sequence[Message], name: str) -> None:
    for index, turn in enumerate(turns):
        expected = "user" if index % 2 == 0 else "assistant"
        if turn.role != expected:
            raise DataError(
                f"the template {name!r} wants user and assistant in turn, but message {index + 1} is {turn.role!r} "
                f"where {expected!r} belongs"
            )


class PlainTemplate(ChatTemplate):
    """LLaVA's stage-1 template: the image, its caption, a line feed; the instruction is thrown away.

    `llava/train/train.py`, `preprocess_plain`: exactly one user and one assistant turn; caption and line feed are
    supervised, there is no end-of-sequence token.
    """

    def __init__(self, config: TemplateConfig) -> None:
        super().__init__(config, end="\n")

    def render(self, messages: Sequence[Message], generation_prompt: bool = False) -> list[Piece]:
        roles = [message.role for message in messages]
        if roles != (["user"] if generation_prompt else ["user", "assistant"]):
            raise DataError(
                f"the template 'plain' wants one user and one assistant message, found {roles or 'none'}; "
                "split the conversation or choose another template"
            )
        images = [piece for piece in content_pieces(messages[0]) if piece.image is not None]
        if not images:
            raise DataError("the template 'plain' pairs an image with its caption, but the user message has no image")
        if generation_prompt:
            return images
        return [*images, *content_pieces(messages[1], -1), Piece(self.end, supervised=True, turn=-1)]
