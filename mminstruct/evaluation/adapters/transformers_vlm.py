"""Answers of any vision-language model of transformers: a folder with weights, processor and chat template.

    request ─ the processor's chat template ─▶ text + pictures ─ the processor, a batch at once ─▶ generate ─▶ reply

Nothing of the family is known here: its own template writes the prompt, its own processor makes the batch. A video goes
as its frames, pictures in the video's place, since few templates know of videos. Weights are read from safetensors only
and no code of the folder is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from PIL import Image
from transformers import AutoProcessor, PreTrainedModel, ProcessorMixin

from mminstruct.conversation import Message, TextPart, VideoPart, message
from mminstruct.errors import CheckpointError, ConfigError, DataError
from mminstruct.evaluation.adapters.generating import GeneratingAdapter, Prompt
from mminstruct.evaluation.facts import identity
from mminstruct.evaluation.requests import Request
from mminstruct.media import FrameSampling, Video
from mminstruct.models.native.checkpoint import open_model
from mminstruct.models.scan import scan

Frames = Sequence[Image.Image]


class TransformersAdapter(GeneratingAdapter):
    """Asks a loaded model; see `open_folder`.

    Args:
        processor: of the model, with a chat template and a tokenizer.
        sampling: which frames of a video are shown.

    Raises:
        ConfigError: there is no chat template.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        *,
        sampling: FrameSampling | None = None,
        batch_tokens: int | None = None,
        identity: Mapping[str, str] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        if processor.chat_template is None:
            raise ConfigError(
                f"{type(processor).__name__} has no chat template; save one with it (chat_template.jinja)"
            )
        super().__init__(model, batch_tokens=batch_tokens, identity=identity, facts=facts)
        self.processor = processor
        self._sampling = sampling or FrameSampling()
        self._grown: dict[tuple[tuple[int, int], ...], int] = {}
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    @property
    def tokenizer(self) -> Any:
        return self.processor.tokenizer

    @property
    def frame_sampling(self) -> FrameSampling:
        return self._sampling

    def prepare(self, medium: Image.Image | Video) -> Frames:
        return medium.frames if isinstance(medium, Video) else (medium,)

    def prompt(self, place: int, request: Request, media: Sequence[Frames]) -> Prompt:
        """Its sample is (text, pictures). Raises `DataError` where it does not fit the chat template."""
        messages = request.conversation.messages
        pictures = [
            picture
            for one in messages
            for part in one.content
            if not isinstance(part, TextPart)
            for picture in media[part.index]
        ]
        text = self._text(messages, [len(frames) for frames in media], request.conversation.id)
        return Prompt(place, request, (text, pictures), self._length(text, pictures, request.conversation.id))

    def inputs(self, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
        name = prompts[0].request.conversation.id
        return self._processed([prompt.sample[0] for prompt in prompts], [prompt.sample[1] for prompt in prompts], name)

    def alike(self, prompt: Prompt) -> tuple[Any, ...]:
        """As many pictures, too: not every processor takes a batch in which some prompts have none."""
        return (*super().alike(prompt), len(prompt.sample[1]))

    def decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def beginnings(self, request: Request) -> list[int]:
        """Raises `ConfigError` where the template writes an answer otherwise than behind the prompt."""
        messages, name = request.conversation.messages, request.conversation.id
        frames = [1] * len(request.conversation.media)  # how many does not matter to what stands behind them
        asked = self._ids(self._text(messages, frames, name))
        found = []
        for choice in request.choices:
            told = self._ids(self._text([*messages, message("assistant", choice)], frames, name, answered=True))
            if told[: len(asked)] != asked or len(told) == len(asked):
                raise ConfigError(
                    f"the chat template of {type(self.processor).__name__} does not write an answer behind the prompt "
                    "that asks for it; use a protocol that generates"
                )
            found.append(told[len(asked)])
        return found

    # ---- the processor -----------------------------------------------------------------------------------------------

    def _text(self, messages: Sequence[Message], frames: Sequence[int], name: str, answered: bool = False) -> str:
        turns: Any = [{"role": one.role, "content": _content(one, frames)} for one in messages]
        try:
            return str(self.processor.apply_chat_template(turns, add_generation_prompt=not answered, tokenize=False))
        except (TemplateError, ValueError, TypeError) as error:
            raise DataError(f"conversation {name!r} does not fit the model's chat template: {error}") from None

    def _special(self, text: str) -> bool:
        """Whether the tokenizer adds its tokens: not to a text in which the template wrote the first of them."""
        start = self.tokenizer.bos_token
        return start is None or not text.startswith(start)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=self._special(text))["input_ids"]
        return ids

    def _length(self, text: str, pictures: Frames, name: str) -> int:
        """Tokens of a prompt, where pictures of the same sizes make as many as they did the first time."""
        sizes = tuple(picture.size for picture in pictures)
        own = len(self._ids(text))
        if sizes not in self._grown:
            whole = self._processed([text], [list(pictures)], name)["input_ids"].shape[1]
            self._grown[sizes] = whole - own
        return own + self._grown[sizes]

    def _processed(self, texts: list[str], pictures: list[list[Image.Image]], name: str) -> dict[str, torch.Tensor]:
        given: dict[str, Any] = {"images": pictures} if pictures[0] else {}
        try:
            found = self.processor(
                text=texts,
                padding=True,
                return_tensors="pt",
                add_special_tokens=self._special(texts[0]),
                **given,
            )
        except ValueError as error:  # the families' own checks of texts and pictures
            raise DataError(f"conversation {name!r} does not fit the model's processor: {error}") from None
        return dict(found)


def open_folder(
    folder: Path,
    *,
    device: str | torch.device = "cpu",
    batch_tokens: int | None = None,
    files: Mapping[str, str] | None = None,
) -> TransformersAdapter:
    """The adapter of a folder that `save_pretrained` wrote, or that the hub has.

    Args:
        files: hashes of its files (`facts.checkpoint_files`), where replies are to be kept.

    Raises:
        CheckpointError: the folder is no whole vision-language model of transformers.
        ConfigError: it has no chat template.
    """
    if Path(folder).is_dir():
        scan(Path(folder))
    model = open_model(folder, "auto").eval()
    model.to(device=device)  # type: ignore[call-arg]
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise CheckpointError(f"the processor of {folder} cannot be opened: {error}") from None
    if not isinstance(processor, ProcessorMixin):
        raise CheckpointError(f"{folder} has a tokenizer but no processor of pictures; copy or save it again")
    if model.generation_config.eos_token_id is None:
        model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    if model.generation_config.pad_token_id is None:
        model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    dtype = str(model.dtype).removeprefix("torch.")
    facts = {
        "folder": str(folder),
        "model": type(model).__name__,
        "processor": type(processor).__name__,
        "chat_template": "the processor's",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": dtype,
        "device": str(model.device),
    }
    return TransformersAdapter(
        model,
        processor,
        batch_tokens=batch_tokens,
        identity=None if files is None else {"adapter": "transformers", **identity(folder, dtype, files)},
        facts=facts,
    )


def _content(one: Message, frames: Sequence[int]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for part in one.content:
        if isinstance(part, TextPart):
            parts.append({"type": "text", "text": part.text})
        else:
            parts += [{"type": "image"}] * (frames[part.index] if isinstance(part, VideoPart) else 1)
    return parts
