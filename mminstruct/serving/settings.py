"""How an answer is drawn, and what one generator allows at most."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mminstruct.config import Config

MAX_STOPS = 16
MAX_LOGPROBS = 20
MAX_SCHEMA = 64 * 1024  # characters; the model waits while a schema is looked through

Stop = Annotated[str, Field(min_length=1, max_length=1000)]
Bias = Annotated[float, Field(ge=-100, le=100)]


class GenerationSettings(Config):
    """How an answer is drawn. `temperature` 0 is greedy; then `top_p`, `top_k`, `min_p` and `seed` have no effect.

    The filters are those of transformers and vLLM, in the order: bias, penalties, temperature, top-k, top-p, min-p.

    Attributes:
        max_new_tokens: the longest answer.
        top_k: how many of the likeliest tokens are drawn from; 0 means all.
        min_p: tokens less likely than this share of the likeliest are left out.
        repetition_penalty: divides (or, below zero, multiplies) the logits of tokens that stand in prompt or answer.
        presence_penalty, frequency_penalty: OpenAI's: taken off the logits of tokens that the answer has, once and for
            each time.
        logit_bias: added to the logits of these token ids.
        stop: the answer ends before the first of these texts.
        seed: makes drawing repeatable: the same seed, prompt and settings give the same answer.
        logprobs: of each token of the answer, its log probability before temperature and filters and those of so many
            likeliest ones; None means none at all.
        response_schema: the JSON schema that the answer is kept to, as JSON; see `serving.structured`.
        max_seconds: the answer ends after so much time, prompt included, queue not.
    """

    max_new_tokens: int = Field(default=512, ge=1, le=1_000_000)
    temperature: float = Field(default=0.0, ge=0.0, le=5.0, allow_inf_nan=False)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0)
    min_p: float = Field(default=0.0, ge=0.0, le=1.0)
    repetition_penalty: float = Field(default=1.0, gt=0.0, le=10.0)
    presence_penalty: float = Field(default=0.0, ge=-2.0, le=2.0)
    frequency_penalty: float = Field(default=0.0, ge=-2.0, le=2.0)
    logit_bias: dict[int, Bias] = Field(default_factory=dict, max_length=1000)
    stop: tuple[Stop, ...] = Field(default=(), max_length=MAX_STOPS)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    response_schema: str | None = Field(default=None, max_length=MAX_SCHEMA)
    max_seconds: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)


class Limits(Config):
    """What one generator allows.

    Attributes:
        waiting: requests that may wait beside those that are answered; one more is refused.
        batch: answers made side by side; None means 16 in 32 bits and 1 in half precision, where a batch adds numbers
            in another order and an answer on a knife's edge would depend on who else asks.
        kept_bytes: memory for keys and values of past prompts and answers, which the next turn of a chat begins with.
        prompt_step: tokens of a prompt read between two looks at other answers and at who has left.
    """

    waiting: int = Field(default=64, ge=0)
    batch: int | None = Field(default=None, ge=1, le=1024)
    kept_bytes: int = Field(default=2**30, ge=0)
    prompt_step: int = Field(default=1024, ge=16)
