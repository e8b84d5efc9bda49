"""What a recipe says of watching a stage while it trains: quick benchmarks, answers, when to stop, what to guard."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from mminstruct.config import Config

LOSS = "validation_loss"


class BenchmarkConfig(Config):
    """A benchmark of `eval/`, asked in part.

    Attributes:
        limit: the first so many questions.
        options: the benchmark's own.
    """

    limit: int = Field(default=200, gt=0)
    options: dict[str, Any] = Field(default_factory=dict)


class AnswersConfig(Config):
    """Held-out instructions that the model answers (`mminstruct.evaluation.answering`).

    Attributes:
        limit: how many, at most.
        max_new_tokens: an answer that has not ended by then counts as none.
    """

    limit: int = Field(default=64, gt=0)
    max_new_tokens: int = Field(default=256, gt=0)


class StopConfig(Config):
    """When a stage ends before its last step, and which of its models is the stage's.

    Attributes:
        metric: what is compared, a name that validation logs.
        mode: whether less of it is better or more; a loss is minimised, of everything else it has to be said.
        patience: the stage ends after so many validations without a better one.
        min_delta: by how much a better one has to be better.
    """

    metric: str = LOSS
    mode: Literal["min", "max"] | None = None
    patience: int = Field(default=3, gt=0)
    min_delta: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _of_one_mind(self) -> StopConfig:
        if self.mode is None and self.metric != LOSS:
            raise ValueError(f"say whether more of {self.metric} is better (mode: max) or less (mode: min)")
        return self


class GuardConfig(Config):
    """Which steps are not made.

    Attributes:
        loss_spike: those with a loss above so many times the median of the last 50 steps.
        grad_norm: those with a gradient norm, before clipping, above this.
        action: whether such a step is skipped, or stops the run.
        limit: so many are skipped in a stage; one more stops the run.
    """

    loss_spike: float | None = Field(default=None, gt=1)
    grad_norm: float | None = Field(default=None, gt=0)
    action: Literal["skip", "stop"] = "skip"
    limit: int = Field(default=10, gt=0)

    @model_validator(mode="after")
    def _guards_something(self) -> GuardConfig:
        if self.loss_spike is None and self.grad_norm is None:
            raise ValueError("give a guard a loss_spike, a grad_norm, or both")
        return self
