"""What a recipe's stage and an adapter folder say of an adapter: its kind, the part that carries it, its settings."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from mminstruct.config import Config
from mminstruct.errors import did_you_mean
from mminstruct.models.vlm import PARTS


class _OnPart(Config):
    """`learning_rate`: the adapter's own peak; left out, it is the stage's, which then has to be one number."""

    part: str
    learning_rate: float | None = Field(default=None, gt=0)

    @field_validator("part")
    @classmethod
    def _known_part(cls, part: str) -> str:
        if part not in PARTS:
            raise ValueError(f"no part is called {part!r}.{did_you_mean(part, PARTS)}")
        return part


class LoraConfig(_OnPart):
    """Low-rank matrices beside every linear layer of a part but the output head (arXiv 2106.09685, section 4.1).

    Attributes:
        alpha: the product of the matrices counts `alpha / rank`; with `rslora` `alpha / sqrt(rank)` (arXiv 2312.03732).
        dora: learn the length of each row of the weight, too (DoRA, arXiv 2402.09353, section 4).
        init: of the first matrix; the second starts at zero, so training starts from the base's own outputs.
        bits: 4 keeps the part's linear layers in NF4 while it trains (QLoRA, arXiv 2305.14314); needs bitsandbytes.
            Only the language model's: no connector, tower or head is ever quantised.
    """

    kind: Literal["lora"]
    rank: int = Field(default=16, gt=0)
    alpha: int = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    dora: bool = False
    rslora: bool = False
    init: Literal["kaiming", "gaussian"] = "kaiming"
    bits: Literal[4] | None = None

    @model_validator(mode="after")
    def _only_the_language_model_is_quantised(self) -> Self:
        if self.bits is not None and self.part != "language_model":
            raise ValueError(f"bits: {self.bits} is for the language_model; the {self.part} is never quantised")
        return self


class MaskConfig(_OnPart):
    """A binary mask on the weights of a part, whose own values stay (R-AMT, arXiv 2307.15049).

    Attributes:
        share: of the part's maskable numbers, the most that carry a mask; which weights do is chosen by the size of
            the loss's gradient before training. 1 masks all.
        importance_batches: micro-batches that the gradient is summed over to choose.
        start, threshold: of the scores; a score above `threshold` keeps its weight. Defaults are the official ones.
        gradient_dropout: 0 learns from the task alone; 1 drops, with the probability of the paper, the gradient of each
            score where it disagrees with the one that keeps the untuned model's answers; between, drops a part of it.
    """

    kind: Literal["mask"]
    share: float = Field(default=1.0, gt=0, le=1)
    importance_batches: int = Field(default=8, gt=0)
    start: float = Field(default=1e-2, gt=0)
    threshold: float = Field(default=5e-3, ge=0)
    gradient_dropout: float = Field(default=1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _starts_above(self) -> Self:
        if self.start <= self.threshold:
            raise ValueError("start must lie above threshold, so that training starts from the whole weights")
        return self


AdapterConfig = Annotated[LoraConfig | MaskConfig, Field(discriminator="kind")]
