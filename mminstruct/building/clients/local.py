"""A model of the transformers library on this machine: a folder with weights, tokenizer or processor, chat template.

One question at a time, so that a reply depends on its question only; for many questions an inference server is faster
(`OpenAICompatibleClient`). Without a temperature replies are greedy, with one they are drawn by a seed of the question.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mminstruct.building.clients.base import Call, LanguageModelClient
from mminstruct.building.request import Completion, Parameters
from mminstruct.conversation import ImagePart, Message, TextPart
from mminstruct.errors import ConfigError, ServerError
from mminstruct.media import open_image

if TYPE_CHECKING:
    from transformers import GenerationConfig

_MAX_TOKENS = 1024  # of a reply, where nobody says how many


class LocalClient(LanguageModelClient):
    """
    Args:
        folder: what `save_pretrained` wrote; safetensors only, and no code of its own is run.
        device: as torch names it.

    Raises:
        ConfigError: no such folder, no model of a kind that writes text, or no chat template.
    """

    backend = "transformers"
    paid: ClassVar[bool] = True  # not in money, but nobody wants to wait for it twice

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from transformers import (
            MODEL_FOR_CAUSAL_LM_MAPPING,
            MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
            AutoConfig,
            AutoModelForCausalLM,
            AutoModelForImageTextToText,
            AutoProcessor,
            AutoTokenizer,
        )

        from mminstruct.models.scan import scan

        if not (folder / "config.json").is_file():
            raise ConfigError(f"{folder} has no config.json; give a folder with a model of transformers")
        scan(folder)
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        config = AutoConfig.from_pretrained(folder, **options)
        self.sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        if not self.sees and type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise ConfigError(f"{folder} is a {config.model_type}, which writes no text; give a language model")
        # Processors and tokenizers share the methods that are used here, and no base class.
        self._processor: Any = (AutoProcessor if self.sees else AutoTokenizer).from_pretrained(folder, **options)
        if self._processor.chat_template is None:
            raise ConfigError(f"{folder} has no chat template; save one with its tokenizer, or ask a server")
        kind: Any = AutoModelForImageTextToText if self.sees else AutoModelForCausalLM
        self._model = kind.from_pretrained(folder, use_safetensors=True, dtype="auto", **options).to(device).eval()
        self.model = folder.resolve().name
        self._lock = threading.Lock()

    def complete(self, call: Call) -> Completion:
        """
        Raises:
            ConfigError: pictures or video are sent to a model that takes none.
            ServerError: the question is longer than the model's context.
        """
        import torch

        pictures = [open_image(call.folder / medium.path) for medium in call.request.media]
        messages = [{"role": one.role, "content": self._content(one, pictures)} for one in call.request.messages]
        with self._lock:
            inputs = self._processor.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
            ).to(self._model.device)
            length = inputs["input_ids"].shape[1]
            room = self._context - length
            if room < 1:
                raise ServerError(
                    f"a question of {call.request.prompt} has {length} tokens, and {self.model} takes {self._context}; "
                    f"ask a model with a longer context"
                )
            settings = self._settings(call.request.parameters, room)
            with torch.random.fork_rng(), torch.inference_mode():
                torch.manual_seed(int(call.key[:15], 16))
                out = self._model.generate(**inputs, generation_config=settings)
            written = out[0, length:].tolist()
            ended = bool(written) and written[-1] in self._ends
            text = self._processor.decode(written, skip_special_tokens=True)
        usage = {"prompt_tokens": length, "completion_tokens": len(written)}
        return Completion(text=text.strip(), finish="stop" if ended else "length", usage=usage)

    @property
    def _ends(self) -> list[int]:
        ends = self._model.generation_config.eos_token_id
        return ends if isinstance(ends, list) else [] if ends is None else [ends]

    @property
    def _context(self) -> int:
        """Tokens that the model was made for."""
        found = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        return found if isinstance(found, int) else sys.maxsize  # of models whose places have no end

    def _settings(self, parameters: Parameters, room: int) -> GenerationConfig:
        from transformers import GenerationConfig

        drawn: dict[str, Any] = {"do_sample": False}
        if parameters.temperature:
            drawn = {
                "do_sample": True,
                "temperature": parameters.temperature,
                "top_p": parameters.top_p or 1.0,
                "top_k": 0,
            }
        own = self._model.generation_config
        return GenerationConfig(
            max_new_tokens=min(parameters.max_tokens or _MAX_TOKENS, room),
            eos_token_id=own.eos_token_id,
            pad_token_id=own.pad_token_id if own.pad_token_id is not None else (self._ends or [0])[0],
            bos_token_id=own.bos_token_id,
            **drawn,
        )

    def _content(self, message: Message, pictures: list[Any]) -> str | list[dict[str, Any]]:
        if not self.sees:
            if not all(isinstance(part, TextPart) for part in message.content):
                raise ConfigError(f"{self.model} takes text only, and is asked about a picture; give one that sees")
            return message.text
        parts: list[dict[str, Any]] = []
        for part in message.content:
            if isinstance(part, TextPart):
                parts.append({"type": "text", "text": part.text})
            elif isinstance(part, ImagePart):
                parts.append({"type": "image", "image": pictures[part.index]})
            else:
                raise ConfigError("a video is sent to a model of pictures; send its frames")
        return parts
