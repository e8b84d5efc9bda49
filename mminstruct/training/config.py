"""A training recipe: what `train/recipes/*.yaml` holds.

A recipe names a model, its data and one or more stages; each stage says which parts train, how fast and for how long.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mminstruct.chat_template import Loss, TemplateConfig
from mminstruct.config import Config
from mminstruct.data.feature_cache import FeatureCacheConfig
from mminstruct.data.mixture import Balance
from mminstruct.data.rules import TooLong
from mminstruct.errors import did_you_mean
from mminstruct.models.adapters.config import AdapterConfig, LoraConfig, MaskConfig
from mminstruct.models.vlm import PARTS
from mminstruct.training.objectives import OBJECTIVES, ObjectiveOptions, SftConfig
from mminstruct.training.watch_config import LOSS, AnswersConfig, BenchmarkConfig, GuardConfig, StopConfig

Kernels = Literal["torch", "liger"]


class SourceConfig(Config):
    """Where conversations come from: files that are there (`path`), or a builder that makes them for the run.

    `format` is found from the files when left out; media paths start from `media_root` (default: where the data is).
    `options` are the builder's, or those of reading the format. A built data set stays in the run's folder.
    """

    path: Path | None = None
    builder: str | None = None
    format: str | None = None
    media_root: Path | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_whole(self) -> SourceConfig:
        self._require_one_source()
        return self

    def _require_one_source(self) -> None:
        if (self.path is None) == (self.builder is None):
            raise ValueError("give data either a path or a builder")
        if self.builder is not None and (self.format or self.media_root):
            raise ValueError("a builder's data set knows its format and its media; leave format and media_root out")


class MemberConfig(SourceConfig):
    """One source of a mixture.

    Attributes:
        weight: what its share is multiplied by.
        cap: conversations of it in an epoch at most, others in each epoch.
        repeat: it counts as so many times its size; 0.5 takes half of it in each epoch.
    """

    weight: float = Field(default=1.0, gt=0)
    cap: int | None = Field(default=None, gt=0)
    repeat: float = Field(default=1.0, gt=0)


class DataConfig(SourceConfig):
    """One source, or a mixture of several.

    Attributes:
        balance: of a mixture: a source's share of an epoch is proportional to its size (`sizes`) or to the square root
            of it (`sqrt`), after cap and repeat and times its weight, or to its weight alone (`weights`).
        too_long: what becomes of a conversation with more tokens than `max_length` or a pack: an `error`, `truncate`
            (turns are left out from the end, whole ones, as few as it takes; without an answer left it is skipped), or
            `skip`.
        on_error: whether a conversation that cannot be used (a file of its media is missing or its header is broken,
            the chat template does not take it) stops the run (`raise`) or is left out (`skip`).
        max_errors: how many may be left out for that; one more stops the run.
    """

    mixture: list[MemberConfig] | None = Field(default=None, min_length=1)
    balance: Balance = "sizes"
    too_long: TooLong = "error"
    on_error: Literal["raise", "skip"] = "raise"
    max_errors: int = Field(default=100, ge=0)

    def _require_one_source(self) -> None:
        if self.mixture is None:
            super()._require_one_source()
            if self.balance != "sizes":
                raise ValueError("balance is for a mixture; take it out")
        elif self.path or self.builder or self.format or self.media_root or self.options:
            raise ValueError("give data either a mixture or one source; what describes a source stands in the mixture")

    @property
    def sources(self) -> list[MemberConfig]:
        """The mixture; a single source is one of one member."""
        if self.mixture is not None:
            return self.mixture
        return [MemberConfig(**{name: getattr(self, name) for name in SourceConfig.model_fields})]


class ValidationConfig(Config):
    """What is measured of a stage's model while it trains, logged as `validation_loss` and the like.

    Attributes:
        share: of the stage's conversations, held out of its training.
        data: conversations to validate on, instead.
        every: steps between two validations; one more stands behind the last step.
        benchmarks: by name or path, asked in part.
        answers: held-out instructions that the model answers.
    """

    share: float | None = Field(default=None, gt=0, lt=1)
    data: DataConfig | None = None
    every: int = Field(default=200, gt=0)
    benchmarks: dict[str, BenchmarkConfig] = Field(default_factory=dict)
    answers: AnswersConfig | None = None

    @model_validator(mode="after")
    def _measures_something(self) -> ValidationConfig:
        if self.share is not None and self.data is not None:
            raise ValueError("validate on a share of the stage's data or on data of its own; take one out")
        if not self.holds_out and self.answers is not None:
            raise ValueError("answers are asked of held-out conversations; give validation a share or data")
        if not self.holds_out and not self.benchmarks:
            raise ValueError("give validation a share, data or benchmarks")
        return self

    @property
    def holds_out(self) -> bool:
        """Whether there are conversations to validate on."""
        return self.share is not None or self.data is not None

    @property
    def asks(self) -> bool:
        """Whether the model has to answer something."""
        return bool(self.benchmarks) or self.answers is not None


class StageConfig(Config):
    """One stage of training.

    Attributes:
        train: the parts that learn whole; every other part keeps its values bit for bit, but for its adapter.
        adapters: what learns beside the frozen weights of other parts; merged into them when the stage ends.
        learning_rate: the peak, one for all parts or one per part of `train`; an adapter may have its own.
        chat_template: for this stage only (LLaVA aligns with `plain`); the model keeps its own.
        objective: what is minimised, a name or `{kind: NAME, ...}` with its options (`training/objectives`).
        loss: on which texts it is taken (`mminstruct.chat_template.Supervision`).
        batch_size: conversations per process and micro-batch; the optimiser's step sees `batch_size * accumulate *
            processes` of them and divides by their supervised tokens, however they are split.
        warmup: share of the steps with a rising learning rate; a cosine to zero follows.
        steps: stop after so many optimiser steps instead of after `epochs`.
        pack_tokens: tokens of a micro-batch at most, instead of `batch_size` conversations, which are packed by their
            true lengths (`mminstruct.data.packs`).
        share_prefix: let conversations about one picture stay together and stand behind one copy of its tokens; the
            default is to do so wherever several are about the same picture and the model allows it.
        group_by_length: make batches of conversations of like length, all with pictures or all without, for models that
            need padding.
        feature_cache: keep on disk what the vision encoder makes of each picture, for stages in which it is frozen.
        activation_checkpointing: of these parts keep only what goes into each layer, and compute the layer again for
            its gradients: the same numbers in less memory and more time.
        validation: what is measured of the model while it trains.
        stop: when the stage ends early; its model is then the best one that was validated.
        guard: which steps are not made.
        ema: the decay of an average of the weights, which is validated and becomes the stage's model.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    train: list[str]
    adapters: list[AdapterConfig] = Field(default_factory=list)
    data: DataConfig | None = None
    chat_template: TemplateConfig | None = None
    objective: ObjectiveOptions = Field(default=SftConfig(), discriminator="kind")
    loss: Loss = "response"
    epochs: float = Field(default=1.0, gt=0)
    steps: int | None = Field(default=None, gt=0)
    batch_size: int = Field(default=16, gt=0)
    accumulate: int = Field(default=1, gt=0)
    learning_rate: float | dict[str, float]
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: float = Field(default=0.03, ge=0, lt=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
    group_by_length: bool = False
    pack_tokens: int | None = Field(default=None, gt=0)
    share_prefix: bool | None = None
    feature_cache: FeatureCacheConfig | None = None
    activation_checkpointing: list[Literal["vision_encoder", "language_model"]] = Field(default_factory=list)
    validation: ValidationConfig | None = None
    stop: StopConfig | None = None
    guard: GuardConfig | None = None
    ema: float | None = Field(default=None, gt=0, lt=1)

    @field_validator("train")
    @classmethod
    def _known_parts(cls, parts: list[str]) -> list[str]:
        for part in parts:
            if part not in PARTS:
                raise ValueError(f"no part is called {part!r}.{did_you_mean(part, PARTS)}")
        return parts

    @field_validator("objective", mode="before")
    @classmethod
    def _named_objective(cls, objective: Any) -> Any:
        if not isinstance(objective, str):
            return objective
        if objective not in OBJECTIVES:
            raise ValueError(f"no objective is called {objective!r}.{did_you_mean(objective, OBJECTIVES)}")
        return {"kind": objective}

    @model_validator(mode="after")
    def _what_only_tokens_have(self) -> StageConfig:
        if not self.objective.of_tokens and self.loss != "response":
            raise ValueError(f"loss: {self.loss} is for objectives of tokens; with {self.objective.kind} take it out")
        dropping = any(isinstance(one, MaskConfig) and one.gradient_dropout > 0 for one in self.adapters)
        if dropping and not self.objective.token_mean:
            raise ValueError(
                f"gradient_dropout is for losses that are means over tokens, and this {self.objective.kind} is none; "
                "give the mask gradient_dropout: 0"
            )
        return self

    @model_validator(mode="after")
    def _a_rate_for_each_part(self) -> StageConfig:
        if isinstance(self.learning_rate, dict) and set(self.learning_rate) != set(self.train):
            raise ValueError(
                f"stage {self.name!r} trains {sorted(self.train)}, but learning_rate names {sorted(self.learning_rate)}"
            )
        return self

    @model_validator(mode="after")
    def _one_order(self) -> StageConfig:
        if self.group_by_length and (self.pack_tokens is not None or self.share_prefix):
            raise ValueError("group_by_length is for padded batches; take it or pack_tokens and share_prefix out")
        return self

    @model_validator(mode="after")
    def _each_part_learns_one_way(self) -> StageConfig:
        if not self.train and not self.adapters:
            raise ValueError("nothing would train; name at least one part under train, or an adapter")
        adapted = [adapter.part for adapter in self.adapters]
        for part in adapted:
            if part in self.train:
                raise ValueError(f"the {part} stands under train, so it learns whole; take it or its adapter out")
            if adapted.count(part) > 1:
                raise ValueError(f"the {part} has two adapters; give it one, or the second in a stage of its own")
        for adapter in self.adapters:
            if adapter.learning_rate is None and isinstance(self.learning_rate, dict):
                raise ValueError(f"give the adapter of the {adapter.part} a learning_rate of its own")
        return self

    @model_validator(mode="after")
    def _only_a_frozen_encoder_is_cached(self) -> StageConfig:
        if self.feature_cache is not None and self.changes("vision_encoder"):
            raise ValueError(
                f"stage {self.name!r} has feature_cache, but its vision_encoder learns, so what it makes of a picture "
                "changes with every step; take feature_cache out, or freeze the vision_encoder"
            )
        return self

    @model_validator(mode="after")
    def _only_what_is_kept_is_computed_again(self) -> StageConfig:
        if "vision_encoder" in self.activation_checkpointing and not self.changes("vision_encoder"):
            raise ValueError(
                f"stage {self.name!r} has activation_checkpointing of the vision_encoder, which is frozen and comes "
                "first, so nothing of it is kept for gradients; take it out"
            )
        return self

    @model_validator(mode="after")
    def _stops_by_what_is_measured(self) -> StageConfig:
        if self.stop is None:
            return self
        if self.validation is None:
            raise ValueError("stop compares what validation logs; give the stage validation")
        if self.stop.metric == LOSS and not self.validation.holds_out:
            raise ValueError(f"stop compares {LOSS}, which needs validation with a share or data")
        return self

    def changes(self, part: str) -> bool:
        """Whether a part learns, whole or by an adapter."""
        return part in self.train or any(adapter.part == part for adapter in self.adapters)

    def rate(self, part: str) -> float:
        return self.learning_rate[part] if isinstance(self.learning_rate, dict) else self.learning_rate

    def adapter_rate(self, adapter: LoraConfig | MaskConfig) -> float:
        if adapter.learning_rate is not None:
            return adapter.learning_rate
        assert not isinstance(self.learning_rate, dict)  # the validator has seen to it
        return self.learning_rate

    @property
    def highest_rate(self) -> float:
        return max([*map(self.rate, self.train), *map(self.adapter_rate, self.adapters)])


class Recipe(Config):
    """A whole run.

    Attributes:
        model: a zoo row (made anew, with the hub's weights where `pretrained`) or a checkpoint folder.
        precision: `bf16` computes in bfloat16 and keeps the weights in float32; on a GPU those of matrix products that
            do not learn in bfloat16, which gives the same products.
        kernels: what computes norms, rotary embeddings and feed-forwards of the language model, `torch` or, on a GPU,
            `liger`.
        max_length: tokens of the longest conversation, images included; a longer one is an error that names it.
        deepspeed: a DeepSpeed config of `train/deepspeed` by name, or a path; needs a `deepspeed` or `torchrun` launch.
        evaluate: benchmarks that `mminstruct quickstart` runs on the trained model.
        save_every: optimiser steps between checkpoints to resume from; the newest two are kept.
        data_cache: the folder that keeps conversations and their token counts ready, for this run and later ones; the
            default is one in the run's folder. What is in it is found by content, so runs can share it.
        trackers: where the log goes besides `metrics.jsonl`, through transformers' own integrations.
        workers: processes that read and prepare samples ahead of the step; 0 does it in between.
    """

    name: str
    summary: str
    model: str
    pretrained: bool = False
    data: DataConfig
    data_cache: Path | None = None
    stages: list[StageConfig] = Field(min_length=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    kernels: Kernels = "torch"
    max_length: int = Field(default=2048, gt=0)
    seed: int = 0
    evaluate: list[str] = Field(default_factory=list)
    deepspeed: str | None = None
    save_every: int = Field(default=500, gt=0)
    log_every: int = Field(default=10, gt=0)
    trackers: list[Literal["tensorboard", "wandb", "trackio"]] = Field(default_factory=list)
    workers: int = Field(default=0, ge=0)

    @field_validator("stages")
    @classmethod
    def _names_differ(cls, stages: list[StageConfig]) -> list[StageConfig]:
        names = [stage.name for stage in stages]
        if len(set(names)) != len(names):
            raise ValueError(f"two stages have the same name: {names}")
        return stages
