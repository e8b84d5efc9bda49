"""Answers kept to a JSON schema: whatever a random model would rather say, what it says is valid; the others are not
disturbed, and a schema that cannot be kept to is its request's failure alone."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
import torch
from pydantic import BaseModel, ConfigDict, Field
from transformers import LlamaConfig, LlamaForCausalLM

from mminstruct.building.replies import strict_schema
from mminstruct.errors import ConfigError, DataError
from mminstruct.media.gate import Gate
from mminstruct.models.processor import Processor
from mminstruct.models.vlm import VisionLanguageModel
from mminstruct.serving.api.app import create_app
from mminstruct.serving.decoder import OneByOne
from mminstruct.serving.generator import Generator
from mminstruct.serving.models import Models
from mminstruct.serving.remote import remote_models
from mminstruct.serving.server import reserve, served
from mminstruct.serving.settings import GenerationSettings, Limits
from mminstruct.serving.side_by_side import SideBySide
from mminstruct.serving.structured import Constraint, Grammars
from tests.serving.test_side_by_side import alone, asked, made, noise


class Seen(BaseModel):
    model_config = ConfigDict(extra="forbid")

    color: Literal["red", "blue"]
    count: int = Field(ge=0, le=9)
    whole: bool
    where: list[Literal["left", "right", "top"]] = Field(min_length=1, max_length=3)


SCHEMA = json.dumps(strict_schema(Seen))


@pytest.fixture(scope="module")
def parts() -> tuple[VisionLanguageModel, Processor]:
    return made("nano")


@pytest.fixture(scope="module")
def generator(parts: tuple[VisionLanguageModel, Processor]) -> Iterator[Generator]:
    with Generator(*parts, Limits(batch=8)) as generator:
        yield generator


def kept(schema: str = SCHEMA, **more: Any) -> GenerationSettings:
    return GenerationSettings(max_new_tokens=300, response_schema=schema, **more)


def test_a_random_model_says_what_is_valid(generator: Generator) -> None:
    drawn = [
        generator.stream(asked("What is it?", 0), [noise(0)], kept(temperature=1.5, seed=seed)) for seed in range(24)
    ]
    texts = ["".join(one) for one in drawn]
    assert [one.usage.finish_reason for one in drawn] == ["end"] * 24
    found = [Seen.model_validate_json(text) for text in texts]
    assert len({one.model_dump_json() for one in found}) > 12, "it does draw"
    greedy = [generator.stream(asked("What is it?", 0), [noise(0)], kept()) for _ in range(2)]
    assert len({Seen.model_validate_json("".join(one)).model_dump_json() for one in greedy}) == 1


def test_any_object(generator: Generator) -> None:
    """Most of it is nonsense and ends at the limit; what ends by itself is an object, and nothing else begins."""
    drawn = [
        generator.stream(asked("?"), [], kept('{"type": "object"}', temperature=1.0, seed=seed)) for seed in range(8)
    ]
    for one in drawn:
        text = "".join(one)
        assert text.lstrip().startswith("{")
        assert one.usage.finish_reason == "length" or isinstance(json.loads(text), dict)


def test_those_beside_it_say_what_they_say_alone(
    parts: tuple[VisionLanguageModel, Processor], generator: Generator
) -> None:
    free = [asked(f"What is {word}?", 0) for word in ("this", "that", "there")]
    plain = GenerationSettings(max_new_tokens=40)
    beside = [generator.stream(one, [noise(0)], plain) for one in free]
    bound = [generator.stream(asked("And?"), [], kept(temperature=1.0, seed=seed)) for seed in range(3)]
    assert ["".join(one) for one in beside] == [alone(*parts, one, [noise(0)], 40) for one in free]
    alike = [generator.stream(asked("And?"), [], kept(temperature=1.0, seed=seed)) for seed in range(3)]
    assert ["".join(one) for one in bound] == ["".join(one) for one in alike]


def test_one_after_the_other_by_generate(
    parts: tuple[VisionLanguageModel, Processor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mminstruct.serving.generator.can_be_used", lambda model: False)
    with Generator(*parts) as generator:
        assert isinstance(generator._decoder, OneByOne)
        answer = generator.stream(asked("What is it?", 0), [noise(0)], kept(temperature=1.0, seed=1))
        Seen.model_validate_json("".join(answer))
        assert answer.usage.finish_reason == "end"
        assert "".join(generator.stream(asked("x"), [], GenerationSettings(max_new_tokens=3)))


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "nosuch"}, "Invalid type: nosuch"),
        ({"not": {"type": "string"}}, "Unimplemented keys"),
        ({"$ref": "http://127.0.0.1:1/schema.json"}, "does not fetch"),
        ({"$ref": "file:///etc/passwd"}, "does not fetch"),
        ({"type": "object", "x-guidance": {"lenient": True}, "not": {}}, "Unimplemented keys"),
    ],
)
def test_a_schema_that_cannot_be_kept_to_is_its_requests_failure(
    parts: tuple[VisionLanguageModel, Processor], generator: Generator, schema: dict[str, Any], problem: str
) -> None:
    other = generator.stream(asked("Go on"), [], GenerationSettings(max_new_tokens=60))
    with pytest.raises(DataError, match=problem):
        list(generator.stream(asked("?"), [], kept(json.dumps(schema))))
    assert "".join(other) == alone(*parts, asked("Go on"), [], 60)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "(a?){40000}a{40000}"},
        {"type": "array", "items": {"type": "string"}, "minItems": 10**8},
        {"anyOf": [{"type": "object", "properties": {f"{i}.{j}": {} for i in range(9)}} for j in range(150)]},
        {"allOf": [{"pattern": f"(a|b)*{letter}(a|b){{50}}"} for letter in "abababab"], "type": "string"},
    ],
)  # fmt: skip
def test_a_schema_made_to_be_slow_holds_nobody_up(generator: Generator, schema: dict[str, Any]) -> None:
    start = time.perf_counter()
    with contextlib.suppress(DataError):  # either it is refused, or the answer begins
        list(generator.stream(asked("?"), [], kept(json.dumps(schema), temperature=1.0, seed=1)))
    assert time.perf_counter() - start < 10


def test_a_schema_that_fails_on_the_way_ends_its_own_answer_only(
    parts: tuple[VisionLanguageModel, Processor], generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    allowed = Constraint.allowed

    def failing(self: Constraint, logits: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) > 5:
            raise DataError("the answer could not be kept to its JSON schema")
        return allowed(self, logits)

    monkeypatch.setattr(Constraint, "allowed", failing)
    assert isinstance(generator._decoder, SideBySide)
    other = generator.stream(asked("Go on"), [], GenerationSettings(max_new_tokens=60))
    bad = generator.stream(asked("?"), [], kept())
    with pytest.raises(DataError, match="could not be kept"):
        list(bad)
    assert bad.usage.finish_reason == "error" and bad.usage.new_tokens == 5
    assert "".join(other) == alone(*parts, asked("Go on"), [], 60)
    assert generator.running == 0


def test_nothing_is_left_to_say() -> None:
    """Where all that the schema lets through is never generated, the answer ends with the reason."""
    _, processor = made("nano")
    grammars = Grammars(processor.tokenizer, [processor.tokenizer.eos_token_id], range(len(processor.tokenizer)))
    with pytest.raises(DataError, match="could not be kept"):
        grammars.constraint(SCHEMA).allowed(torch.zeros(len(processor.tokenizer)))


def test_a_model_whose_vocabulary_is_another_size() -> None:
    _, processor = made("nano")
    size = len(processor.tokenizer)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    constraint = Grammars(processor.tokenizer, [2], []).constraint('{"type": "integer"}')
    for width in (size - 7, size, size + 33):
        scores = constraint.allowed(torch.zeros(width))
        assert len(scores) == width and bool(scores.isinf().any()) and not bool(scores.isinf().all())
        assert bool(scores[size:].isinf().all())
    with pytest.raises(ConfigError, match="fast tokenizer"):
        Grammars(model, [], []).constraint("{}")  # type: ignore[arg-type]


def test_the_official_client_gets_its_class(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    address = reserve()
    with (
        served(create_app(Models({"nano": generator}), Gate()), address, grace=1),
        openai.OpenAI(api_key="any", base_url=f"{address.url}/v1", max_retries=0) as client,
    ):
        question: Any = [{"role": "user", "content": "What is it?"}]
        parsed = client.chat.completions.parse(model="nano", messages=question, response_format=Seen, seed=3)
        assert isinstance(parsed.choices[0].message.parsed, Seen)
        streamed = client.chat.completions.create(
            model="nano",
            messages=question,
            stream=True,
            response_format={"type": "json_schema", "json_schema": {"name": "seen", "schema": json.loads(SCHEMA)}},
        )
        Seen.model_validate_json("".join(chunk.choices[0].delta.content or "" for chunk in streamed))
        with pytest.raises(openai.BadRequestError, match="Invalid type"):
            client.chat.completions.create(
                model="nano",
                messages=question,
                response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "x"}}},
            )
        big = {"enum": ["a" * 70_000]}
        with pytest.raises(openai.BadRequestError, match="response_format"):
            client.chat.completions.create(
                model="nano",
                messages=question,
                response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": big}},
            )
        with remote_models(f"{address.url}/v1") as far:
            Seen.model_validate_json("".join(far["nano"].stream(asked("What is it?"), [], kept())))
