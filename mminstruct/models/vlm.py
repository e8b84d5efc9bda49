"""The vision-language model: encoder, connector and any causal language model, as one `PreTrainedModel`.

    pixel_values [images, 3, H, W] ─encoder─▶ [images, P, D] ─connector─▶ [images, N, H]
    input_ids [B, L] ─embeddings─▶ [B, L, H]; the N places of each image (`image_token_id`) take its N vectors, in order
    inputs_embeds [B, L, H] ─language model─▶ logits [B, L, V]

A connector that reads the instruction gets what is asked about each picture as well (`instruction_ids [images, T]`).
Pictures that are cut into tiles, and videos, take as many places as `Layout` says; then `pixel_values` holds tiles and
frames and `media [n, 3]` says of what (`Medium`). Where the encoder has seen them before, `features [T, P, D]` stand
in the place of `pixel_values`, and it does not run. A connector that stands beside the prompt (gated cross-attention)
leaves each medium one place, and its vectors reach the decoder layers by another way (`cross_attention`).

The language model is reached only through `inputs_embeds` and its public methods, so there is no subclass per LLM.
Images of the whole batch stand in `pixel_values` one after the other, in the order of their places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from mminstruct.config import validate
from mminstruct.errors import ConfigError, DataError
from mminstruct.models import connectors, encoders
from mminstruct.models.config import ExpertExtensionConfig, OwnParts
from mminstruct.models.connectors import GatedCrossAttention, Instruction
from mminstruct.models.cross_attention import KEYWORD, Sights, decoder_layers, sights
from mminstruct.models.experts import PLACES, ExpertExtension
from mminstruct.models.in_step import calls_everything
from mminstruct.models.layout import Layout, Medium

# What a model may consist of; `VisionLanguageModel.parts` says what one does.
PARTS = ("vision_encoder", "connector", "language_model", "experts")


class VisionLanguageConfig(PreTrainedConfig):
    """What `config.json` holds: each part's own complete config, the id that marks an image's places, and how pictures
    are tiled and videos pooled."""

    model_type = "mminstruct"
    sub_configs = {"text_config": AutoConfig}  # noqa: RUF012 - transformers' own convention

    def __init__(
        self,
        vision_encoder: dict[str, Any] | None = None,
        connector: dict[str, Any] | None = None,
        text_config: dict[str, Any] | PreTrainedConfig | None = None,
        image_token_id: int | None = None,
        tiling: dict[str, Any] | None = None,
        video: dict[str, Any] | None = None,
        expert_extension: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(text_config, dict):
            text_config = AutoConfig.for_model(**text_config)
        self.vision_encoder = vision_encoder
        self.connector = connector
        self.text_config: Any = text_config
        self.image_token_id = image_token_id
        self.tiling = tiling
        self.video = video or {}
        self.expert_extension = expert_extension
        if text_config is not None:
            kwargs["tie_word_embeddings"] = text_config.tie_word_embeddings
        super().__init__(**kwargs)


def own_parts(config: VisionLanguageConfig, where: str) -> OwnParts:
    """The parts that are our own modules. Raises `ConfigError`, beginning with `where`, for a key that does not fit."""
    own = {
        "vision_encoder": config.vision_encoder or {},
        "connector": config.connector or {},
        "expert_extension": config.expert_extension,
        "tiling": config.tiling,
        "video": config.video,
    }
    return validate(OwnParts, own, where)


@dataclass
class VisionLanguageOutput(CausalLMOutputWithPast):
    """transformers' output and more.

    Attributes:
        auxiliary_loss: what the connector adds to the mean loss of a token; None for most connectors.
        sights: what was seen beside the prompt, for the tokens that come next; None for connectors in the prompt.
        aux_loss, router_logits: transformers' own, of language models that are mixtures.
    """

    auxiliary_loss: torch.Tensor | None = None
    sights: Sights | None = None
    aux_loss: torch.Tensor | None = None
    router_logits: tuple[torch.Tensor, ...] | None = None


class VisionLanguageModel(PreTrainedModel, GenerationMixin):
    config_class = VisionLanguageConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True

    def __init__(self, config: VisionLanguageConfig) -> None:
        asked = config._attn_implementation
        super().__init__(config)  # chooses an attention for itself and for the language model alike
        parts = own_parts(config, where="config")
        self.vision_encoder = encoders.build(parts.vision_encoder)
        config.text_config._attn_implementation = asked  # some have no SDPA; let each choose for itself
        self.language_model = AutoModelForCausalLM.from_config(config.text_config, attn_implementation=asked)
        self.connector = connectors.build(
            parts.connector,
            input_size=self.vision_encoder.hidden_size,
            output_size=config.text_config.get_text_config().hidden_size,
        )
        size = parts.vision_encoder.image.size
        vectors = self.connector.num_tokens(self.vision_encoder.num_patches(size, size))
        self.layout = Layout(size, vectors, parts.tiling, parts.video, in_prompt=self.connector.in_prompt)
        if parts.tiling is not None and parts.tiling.merge == "spatial_unpad":
            self.connector.add_newline()
        if isinstance(self.connector, GatedCrossAttention):
            self.connector.attach(decoder_layers(self.language_model))
        self.experts: ExpertExtension | None = None
        if parts.expert_extension is not None:
            self.extend(parts.expert_extension)
        self.post_init()

    def init_weights(self) -> None:
        """Each part has initialised itself, by its own library's rules; only shared weights are tied here."""
        self.tie_weights()

    def _apply(self, fn: Any, recurse: bool = True) -> VisionLanguageModel:
        """Every change of precision comes by here. What the language model keeps beside its weights (the frequencies of
        its rotary embeddings) stays as precise as transformers made it: in bfloat16 positions would go astray."""
        named = [
            (module, name, module._buffers[name])
            for module in self.language_model.modules()
            for name in module._non_persistent_buffers_set
        ]
        super()._apply(fn, recurse)
        for module, name, before in named:
            after = module._buffers[name]
            if before is not None and after is not None and before.dtype != after.dtype:
                module._buffers[name] = before.to(after.device)
        return self

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """As in transformers, but tensors keep the names and shapes that the modules have.

        transformers would write a mixture expert by expert, as its first release did; neither `checkpoint.load` nor a
        run that resumes reads that back.
        """
        super().save_pretrained(save_directory, **{"save_original_format": False, **kwargs})

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
        media: torch.Tensor | None = None,
        instruction_ids: torch.Tensor | None = None,
        instruction_mask: torch.Tensor | None = None,
        sights: Sights | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(input_ids, **kwargs)  # type: ignore[misc]
        # Only what reads the prompt sees the pixels; afterwards what they gave is in the cache, and in `sights`.
        seen: dict[str, Any] = {
            "pixel_values": pixel_values,
            "media": media,
            "instruction_ids": instruction_ids,
            "instruction_mask": instruction_mask,
        }
        whole = kwargs.get("is_first_iteration", False) or not kwargs.get("use_cache", True)
        seen = seen if whole else dict.fromkeys(seen)
        return inputs | seen | {"sights": None if whole else sights}

    def _update_model_kwargs_for_generation(  # type: ignore[override]
        self, outputs: VisionLanguageOutput, model_kwargs: dict[str, Any], **kwargs: Any
    ) -> dict[str, Any]:
        updated: dict[str, Any] = super()._update_model_kwargs_for_generation(  # type: ignore[misc]
            outputs, model_kwargs, **kwargs
        )
        return updated | {"sights": outputs.sights}

    # ---- the model itself ------------------------------------------------------------------------------------------

    def image_embeddings(
        self,
        pixel_values: torch.Tensor,
        instruction: Instruction | None = None,
        media: Sequence[Medium] | None = None,
    ) -> torch.Tensor:
        """What the places of all pictures take, in order.

        Args:
            pixel_values: `[T, 3, H, W]`.
            instruction: of each of the T, for connectors that read it.
            media: what the T are tiles and frames of; default: a picture each.

        Returns:
            `[sum of tokens, H]`; for a connector beside the prompt the latents, `[n, N, D]`.

        Raises:
            DataError: an instruction too few or too many, or media that are not made of T tiles and frames.
        """
        return self._see(pixel_values, instruction, media)[0]

    def _see(
        self,
        pixel_values: torch.Tensor | None,
        instruction: Instruction | None,
        media: Sequence[Medium] | None,
        features: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The image embeddings, and what the connector adds to the loss; of pixels, or of the encoder's features."""
        given = pixel_values if features is None else features
        assert given is not None  # the callers have one of them
        reads = self.connector.reads
        if (instruction is None) == (reads != "nothing"):
            raise DataError(
                "this model's connector reads the instruction, and none was given"
                if instruction is None
                else "instruction_ids were given to a model whose connector reads none"
            )
        if media is None:
            if self.layout.tiling is not None:
                raise DataError("this model cuts pictures into tiles; give media, as its own processor makes them")
            media = [Medium(0, self.layout.tile, self.layout.tile)] * len(given)
        if sum(self.layout.tiles(medium) for medium in media) != len(given):
            raise DataError(
                f"media are {sum(self.layout.tiles(medium) for medium in media)} tiles and frames, "
                f"{'pixel_values holds' if features is None else 'features are of'} {len(given)}; "
                "make the inputs with this model's own processor"
            )
        if features is None:
            features = self.vision_encoder(pixel_values)
        if isinstance(self.connector, GatedCrossAttention):
            return self.connector.look(features, [max(1, medium.frames) for medium in media]), None
        if instruction is not None and reads == "embeddings":
            instruction = replace(instruction, embeddings=self.get_input_embeddings()(instruction.input_ids))
        vectors, auxiliary_loss = self.connector.forward_with_loss(features, instruction)
        return self.layout.arrange(vectors, media, self.connector.image_newline), auxiliary_loss

    def embed(
        self,
        input_ids: torch.Tensor,
        pixel_values: torch.Tensor | None,
        instruction: Instruction | None = None,
        media: Sequence[Medium] | None = None,
        features: torch.Tensor | None = None,
        num_image_places: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None, Sights | None]:
        """Token embeddings `[B, L, H]`, each image's vectors at its places; what the connector adds to the loss; and
        what is seen beside the prompt. Give `pixel_values`, or `features`, or neither.

        Args:
            num_image_places: see `forward`.

        Raises:
            DataError: the number of places and of image vectors differ, or features are not this encoder's.
        """
        auxiliary_loss = seen = None
        embeddings: torch.Tensor = self.get_input_embeddings()(input_ids)
        places = input_ids == self.config.image_token_id
        if features is not None:
            self._require_own(features, pixel_values)
            if len(features):
                seen, auxiliary_loss = self._see(None, instruction, media, features.to(embeddings.dtype))
        elif pixel_values is not None:
            seen, auxiliary_loss = self._see(pixel_values.to(embeddings.dtype), instruction, media)
        cached = features is not None
        if not self.connector.in_prompt:
            blank = None
            if seen is None and calls_everything(self):
                blank = self._blank(input_ids, embeddings.dtype, cached)
            return embeddings, auxiliary_loss, sights(seen, places, blank)
        if seen is None and calls_everything(self):
            embeddings = embeddings + 0.0 * self._blank(input_ids, embeddings.dtype, cached).sum()
        found = 0 if seen is None else len(seen)
        wanted = int(places.sum()) if num_image_places is None else num_image_places
        if wanted != found:
            raise DataError(
                f"the text has {wanted} image places, the pictures give {found} vectors; "
                "make the inputs with this model's own processor"
            )
        if seen is not None:
            embeddings = embeddings.masked_scatter(places.unsqueeze(-1), seen.to(embeddings.dtype))
        return embeddings, auxiliary_loss, None

    def _blank(self, input_ids: torch.Tensor, dtype: torch.dtype, cached: bool) -> torch.Tensor:
        """The image embeddings of a blank picture, for a batch that holds text only.

        Every rank runs connector and, unless features are `cached`, encoder once per micro-batch (`in_step`).
        """
        size = self.layout.tile
        media = [Medium(0, size, size)]
        one = self.feature_shape if cached else (3, size, size)
        blank = torch.zeros(self.layout.tiles(media[0]), *one, dtype=dtype, device=input_ids.device)
        instruction = None
        if self.connector.reads != "nothing":
            instruction = Instruction(input_ids.new_zeros(len(blank), 1), input_ids.new_ones(len(blank), 1))
        if cached:
            return self._see(None, instruction, media, blank)[0]
        return self._see(blank, instruction, media)[0]

    def _require_own(self, features: torch.Tensor, pixel_values: torch.Tensor | None) -> None:
        """Raises `DataError` for features that this model's encoder does not make, or that came beside pixels."""
        if pixel_values is not None:
            raise DataError("pixel_values and features were given; the model takes one of them")
        if features.shape[1:] not in (self.feature_shape, self.pooled_shape):
            raise DataError(
                f"features are {list(features.shape)}, this model's encoder makes [T, {self.feature_shape[0]}, "
                f"{self.feature_shape[1]}]; make them with it"
            )

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        media: torch.Tensor | None = None,
        features: torch.Tensor | None = None,
        instruction_ids: torch.Tensor | None = None,
        instruction_mask: torch.Tensor | None = None,
        sights: Sights | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_image_places: int | None = None,
        **kwargs: Any,
    ) -> VisionLanguageOutput:
        """Logits (and the mean loss over `labels`, where given) of the language model.

        Args:
            input_ids: `[B, L]`, `image_token_id` at every place of an image.
            attention_mask: `[B, L]`, 1 for real tokens.
            pixel_values: `[T, 3, H, W]`, all pictures, tiles and frames of the batch in the order of their places.
            media: `[n, 3]`, a `Medium` each, where pictures are tiled or videos among them.
            features: `[T, P, D]`, what the encoder makes of pixels, instead of them, pooled by the connector or not; of
                no picture, `[0, P, D]`, it says that the encoder need not run for a batch of text either.
            instruction_ids, instruction_mask: `[T, L']`, what is asked about each (`Instruction`), for connectors that
                read it.
            sights: of the tokens before these, where they are in the cache.
            inputs_embeds: `[B, L, H]`, instead of `input_ids` and `pixel_values`.
            labels: `[B, L]`, -100 where no loss is taken.
            logits_to_keep: how many positions, from the last on, get logits, or which `[K]`; 0 means all. transformers'
                `generate` asks for one of the whole prompt.
            num_image_places: how many `image_token_id` there are. Left out they are counted, for which the CPU waits
                until a GPU is done with all that it has been given.
        """
        auxiliary_loss = None
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("give either input_ids or inputs_embeds")
            if sights is not None:
                sights = sights.after(input_ids == self.config.image_token_id)
                inputs_embeds = self.get_input_embeddings()(input_ids)
            else:
                instruction = None
                if instruction_ids is not None and instruction_mask is not None:
                    instruction = Instruction(instruction_ids, instruction_mask)
                seen = None if media is None else [Medium(*row) for row in media.tolist()]
                inputs_embeds, auxiliary_loss, sights = self.embed(
                    input_ids, pixel_values, instruction, seen, features, num_image_places
                )
            if self.experts is not None:
                kwargs[PLACES] = input_ids == self.config.image_token_id
        if sights is not None:
            kwargs[KEYWORD] = sights
        output = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            labels=labels,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )
        if sights is not None and sights.readers == [0]:
            raise ConfigError(
                f"{type(self.language_model).__name__} does not pass keyword arguments on to its layers, so gated "
                "layers in front of them see nothing; use another language model or another connector"
            )
        if labels is not None and auxiliary_loss is not None:
            output["loss"] = output["loss"] + auxiliary_loss
        return VisionLanguageOutput(**output, auxiliary_loss=auxiliary_loss, sights=sights)

    # ---- parts -----------------------------------------------------------------------------------------------------

    @property
    def feature_shape(self) -> tuple[int, int]:
        """P and D of what the encoder makes of one tile or frame."""
        size = self.layout.tile
        return self.vision_encoder.num_patches(size, size), self.vision_encoder.hidden_size

    @property
    def pooled_shape(self) -> tuple[int, int]:
        """P' and D of what the connector's pooling leaves of that; it takes both in their place."""
        patches, width = self.feature_shape
        return self.connector.pooled_patches(patches), width

    @property
    def parts(self) -> tuple[str, ...]:
        """Those of `PARTS` that this model has."""
        return tuple(name for name in PARTS if name != "experts" or self.experts is not None)

    def part(self, name: str) -> torch.nn.Module:
        """One of `parts`. Raises `ConfigError` for one that this model does not have."""
        if name not in self.parts:
            raise ConfigError(f"this model has no part called {name!r}, only {', '.join(self.parts)}")
        module: torch.nn.Module = getattr(self, name)
        return module

    def extend(self, extension: ExpertExtensionConfig) -> None:
        """Add new experts to the language model's mixture layers; a checkpoint holds and rebuilds them from then on.

        Raises:
            ConfigError: there are some already, or the language model has no mixture layer where they should be.
        """
        if self.experts is not None:
            raise ConfigError("this model has new experts already; extend the one that it was made of")
        self.experts = ExpertExtension(self.language_model, extension).to(
            device=self.language_model.device, dtype=self.language_model.dtype
        )
        self.experts.train(self.training)
        self.config.expert_extension = extension.model_dump(mode="json")

    def train(self, mode: bool = True) -> VisionLanguageModel:
        """As in torch, but a part that is wholly frozen stays in evaluation mode: no dropout in a frozen tower."""
        super().train(mode)
        for name in self.parts:
            if not any(p.requires_grad for p in self.part(name).parameters()):
                self.part(name).eval()
        return self

    def parameter_counts(self) -> dict[str, int]:
        """Parameters of each part, shared ones counted once."""
        return {name: sum(p.numel() for p in self.part(name).parameters()) for name in self.parts}


AutoConfig.register(VisionLanguageConfig.model_type, VisionLanguageConfig)
AutoModelForCausalLM.register(VisionLanguageConfig, VisionLanguageModel)
