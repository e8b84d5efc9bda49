"""The vision-language model: encoder, connector and any causal language model, as one `PreTrainedModel`.

    pixel_values [images, 3, H, W] ─encoder─▶ [images, P, D] ─connector─▶ [images, N, H]
    input_ids [B, L] ─embeddings─▶ [B, L, H]; the N places of each image (`image_token_id`) take its N vectors, in order
    inputs_embeds [B, L, H] ─language model─▶ logits [B, L, V]

A connector that reads the instruction gets what is asked about each picture as well (`instruction_ids [images, T]`).
The language model is reached only through `inputs_embeds` and its public methods, so there is no subclass per LLM.
Images of the whole batch stand in `pixel_values` one after the other, in the order of their places.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from mminstruct.config import validate
from mminstruct.errors import DataError
from mminstruct.models import connectors, encoders
from mminstruct.models.config import OwnParts
from mminstruct.models.connectors import Instruction

PARTS = ("vision_encoder", "connector", "language_model")


class VisionLanguageConfig(PreTrainedConfig):
    """What `config.json` holds: each part's own complete config, and the id that marks an image's places."""

    model_type = "mminstruct"
    sub_configs = {"text_config": AutoConfig}  # noqa: RUF012 - transformers' own convention

    def __init__(
        self,
        vision_encoder: dict[str, Any] | None = None,
        connector: dict[str, Any] | None = None,
        text_config: dict[str, Any] | PreTrainedConfig | None = None,
        image_token_id: int | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(text_config, dict):
            text_config = AutoConfig.for_model(**text_config)
        self.vision_encoder = vision_encoder
        self.connector = connector
        self.text_config: Any = text_config
        self.image_token_id = image_token_id
        if text_config is not None:
            kwargs["tie_word_embeddings"] = text_config.tie_word_embeddings
        super().__init__(**kwargs)


@dataclass
class VisionLanguageOutput(CausalLMOutputWithPast):
    """transformers' output, and what the connector adds to the mean loss of a token (None for most connectors)."""

    auxiliary_loss: torch.Tensor | None = None


class VisionLanguageModel(PreTrainedModel, GenerationMixin):
    config_class = VisionLanguageConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True

    def __init__(self, config: VisionLanguageConfig) -> None:
        # Only what the caller asks for binds the language model; some have no sdpa, which is this class's own default.
        attention = config._attn_implementation
        super().__init__(config)
        own = {"vision_encoder": config.vision_encoder or {}, "connector": config.connector or {}}
        parts = validate(OwnParts, own, "config")
        self.vision_encoder = encoders.build(parts.vision_encoder)
        self.language_model = AutoModelForCausalLM.from_config(config.text_config, attn_implementation=attention)
        self.connector = connectors.build(
            parts.connector,
            input_size=self.vision_encoder.hidden_size,
            output_size=config.text_config.get_text_config().hidden_size,
        )
        self.post_init()

    def init_weights(self) -> None:
        """Each part has initialised itself, by its own library's rules; only shared weights are tied here."""
        self.tie_weights()

    # ---- what transformers asks of a model -------------------------------------------------------------------------

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: torch.nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, value: torch.nn.Module) -> None:
        self.language_model.set_output_embeddings(value)

    def prepare_inputs_for_generation(  # type: ignore[override]
        self,
        input_ids: torch.LongTensor,
        pixel_values: torch.Tensor | None = None,
        instruction_ids: torch.Tensor | None = None,
        instruction_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(input_ids, **kwargs)  # type: ignore[misc]
        # Only the prefill sees the pictures; afterwards their keys and values are in the cache.
        seen = {"pixel_values": pixel_values, "instruction_ids": instruction_ids, "instruction_mask": instruction_mask}
        first = kwargs.get("is_first_iteration", False)
        return inputs | {name: value if first else None for name, value in seen.items()}

    # ---- the model itself ------------------------------------------------------------------------------------------

    def image_tokens(self, height: int, width: int) -> int:
        """N, the places that a picture of this size takes; the processor asks here too, so both always agree."""
        return self.connector.num_tokens(self.vision_encoder.num_patches(height, width))

    def image_embeddings(self, pixel_values: torch.Tensor, instruction: Instruction | None = None) -> torch.Tensor:
        """`[images, 3, H, W] -> [images, N, H]`. Raises `DataError` for an instruction too few or too many."""
        return self._see(pixel_values, instruction)[0]

    def _see(
        self, pixel_values: torch.Tensor, instruction: Instruction | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The image embeddings, and what the connector adds to the loss."""
        reads = self.connector.reads
        if (instruction is None) == (reads != "nothing"):
            raise DataError(
                "this model's connector reads the instruction, and none was given"
                if instruction is None
                else "instruction_ids were given to a model whose connector reads none"
            )
        if instruction is not None and reads == "embeddings":
            instruction = replace(instruction, embeddings=self.get_input_embeddings()(instruction.input_ids))
        return self.connector.forward_with_loss(self.vision_encoder(pixel_values), instruction)

    def embed(
        self, input_ids: torch.Tensor, pixel_values: torch.Tensor | None, instruction: Instruction | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Token embeddings `[B, L, H]`, each image's vectors at its places, and what the connector adds to the loss.

        Raises:
            DataError: the number of places and of image vectors differ.
        """
        auxiliary_loss = None
        embeddings: torch.Tensor = self.get_input_embeddings()(input_ids)
        places = input_ids == self.config.image_token_id
        if pixel_values is None:
            if self.training:
                # Every rank runs encoder and connector once per micro-batch, or ZeRO-3 and DDP wait for ever for a
                # rank whose batch happens to hold text only. A blank picture with weight zero keeps the graph whole.
                size = self.vision_encoder.config.image.size
                blank = embeddings.new_zeros(1, 3, size, size)
                if self.connector.reads != "nothing":
                    instruction = Instruction(input_ids.new_zeros(1, 1), input_ids.new_ones(1, 1))
                embeddings = embeddings + 0.0 * self.image_embeddings(blank, instruction).sum()
            found = 0
        else:
            seen, auxiliary_loss = self._see(pixel_values.to(embeddings.dtype), instruction)
            vectors = seen.flatten(0, 1)
            found = vectors.shape[0]
        wanted = int(places.sum())
        if wanted != found:
            raise DataError(
                f"the text has {wanted} image places, the pictures give {found} vectors; "
                "make the inputs with this model's own processor"
            )
        if found:
            embeddings = embeddings.masked_scatter(places.unsqueeze(-1), vectors.to(embeddings.dtype))
        return embeddings, auxiliary_loss

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        instruction_ids: torch.Tensor | None = None,
        instruction_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> VisionLanguageOutput:
        """Logits (and the mean loss over `labels`, where given) of the language model.

        Args:
            input_ids: `[B, L]`, `image_token_id` at every place of an image.
            attention_mask: `[B, L]`, 1 for real tokens.
            pixel_values: `[images, 3, H, W]`, all images of the batch in the order of their places.
            instruction_ids, instruction_mask: `[images, T]`, what is asked about each image (`Instruction`), for
                connectors that read it.
            inputs_embeds: `[B, L, H]`, instead of `input_ids` and `pixel_values`.
            labels: `[B, L]`, -100 where no loss is taken.
        """
        auxiliary_loss = None
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("give either input_ids or inputs_embeds")
            instruction = None
            if instruction_ids is not None and instruction_mask is not None:
                instruction = Instruction(instruction_ids, instruction_mask)
            inputs_embeds, auxiliary_loss = self.embed(input_ids, pixel_values, instruction)
        output = self.language_model(
            inputs_embeds=inputs_embeds, attention_mask=attention_mask, labels=labels, **kwargs
        )
        if labels is not None and auxiliary_loss is not None:
            output["loss"] = output["loss"] + auxiliary_loss
        return VisionLanguageOutput(**output, auxiliary_loss=auxiliary_loss)

    # ---- parts -----------------------------------------------------------------------------------------------------

    def part(self, name: str) -> torch.nn.Module:
        """One of `PARTS`."""
        return {
            "vision_encoder": self.vision_encoder,
            "connector": self.connector,
            "language_model": self.language_model,
        }[name]

    def train(self, mode: bool = True) -> VisionLanguageModel:
        """As in torch, but a part that is wholly frozen stays in evaluation mode: no dropout in a frozen tower."""
        super().train(mode)
        for name in PARTS:
            if not any(p.requires_grad for p in self.part(name).parameters()):
                self.part(name).eval()
        return self

    def parameter_counts(self) -> dict[str, int]:
        """Parameters of each part, shared ones counted once."""
        return {name: sum(p.numel() for p in self.part(name).parameters()) for name in PARTS}


AutoConfig.register(VisionLanguageConfig.model_type, VisionLanguageConfig)
AutoModelForCausalLM.register(VisionLanguageConfig, VisionLanguageModel)
