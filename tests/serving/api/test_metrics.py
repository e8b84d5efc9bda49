"""The figures for Prometheus, read by its own parser."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

from mminstruct.media.gate import Gate
from mminstruct.serving.api.app import create_app
from mminstruct.serving.generator import Generator
from mminstruct.serving.models import Models
from mminstruct.serving.server import Address, reserve, served
from tests.serving.api.conftest import NAME, Ask


def figures(address: Address) -> dict[tuple[str, str, str], float]:
    """Values by name, model and status or bucket."""
    response = httpx.get(f"{address.url}/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    return {
        (
            sample.name,
            sample.labels.get("model", ""),
            sample.labels.get("status", sample.labels.get("le", "")),
        ): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_requests_tokens_and_times_are_counted(address: Address, ask: Ask) -> None:
    before = figures(address)

    def added(name: str, detail: str = "") -> float:
        key = (f"mminstruct_{name}", NAME, detail)
        return after[key] - before.get(key, 0.0)

    reply = ask("What is it?", max_tokens=9)
    httpx.post(f"{address.url}/v1/chat/completions", json={"model": NAME, "messages": [], "n": 3})
    after = figures(address)
    assert reply.usage is not None
    assert added("requests_total", "200") == 1
    assert added("prompt_tokens_total") == reply.usage.prompt_tokens
    assert added("new_tokens_total") == added("steps_total") == 9
    assert added("time_to_first_token_seconds_count") == added("answer_seconds_count") == 1
    assert 0 < added("time_to_first_token_seconds_sum") <= added("answer_seconds_sum") < 60
    assert added("answer_seconds_bucket", "+Inf") == 1
    assert after["mminstruct_running", NAME, ""] == after["mminstruct_waiting", NAME, ""] == 0
    assert after["process_resident_memory_bytes", "", ""] > 10**7


def test_names_that_clients_make_up_are_no_labels(generator: Generator) -> None:
    address = reserve()
    with served(create_app(Models({NAME: generator}), Gate()), address, grace=1):
        for number in range(5):
            body = {"model": f"made-up-{number}", "messages": [{"role": "user", "content": "hi"}]}
            assert httpx.post(f"{address.url}/v1/chat/completions", json=body).status_code == 404
        found = figures(address)
    assert found["mminstruct_requests_total", "", "404"] == 5
    assert not any("made-up" in model for _, model, _ in found)
