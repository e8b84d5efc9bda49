"""Figures of a server for Prometheus, in a registry of its own: what was asked, what was made, what runs and waits.

Each figure has the label `model`. What runs, waits and was generated is asked of the engines when somebody looks, so
it counts the chats of a page beside the API too; the rest counts requests of the API.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from mminstruct.serving.models import Models
from mminstruct.serving.request import Usage

CONTENT_TYPE = CONTENT_TYPE_LATEST
NO_MODEL = ""  # the label of requests for a model that does not exist, whatever they call it
_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The figures of one server."""

    def __init__(self, models: Models) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Engines(models))
        ProcessCollector(registry=self._registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"mminstruct_{name}", text, ("model", *labels), registry=self._registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(f"mminstruct_{name}", text, ("model",), registry=self._registry, buckets=_SECONDS)

        self._requests = counter(
            "requests", "Chat requests that are over, by HTTP status; 499: the client left.", "status"
        )
        self._prompt_tokens = counter("prompt_tokens", "Tokens of prompts, pictures included.")
        self._cached_tokens = counter("cached_tokens", "Of these, tokens whose keys and values were there already.")
        self._new_tokens = counter("new_tokens", "Tokens of answers.")
        self._first = histogram(
            "time_to_first_token_seconds", "From the request's place in the queue to its first token."
        )
        self._seconds = histogram("answer_seconds", "From the request's place in the queue to the end of its answer.")

    def ended(self, model: str, status: int, usage: Usage | None = None) -> None:
        """Count a request that is over; `usage` where it came to a model."""
        self._requests.labels(model, str(status)).inc()
        if usage is None:
            return
        self._prompt_tokens.labels(model).inc(usage.prompt_tokens)
        self._cached_tokens.labels(model).inc(usage.cached_tokens)
        self._new_tokens.labels(model).inc(usage.new_tokens)
        self._seconds.labels(model).observe(usage.queue_seconds + usage.seconds)
        if usage.first_token_seconds is not None:
            self._first.labels(model).observe(usage.queue_seconds + usage.first_token_seconds)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)


class _Engines(Collector):
    """What the engines say of themselves."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def collect(self) -> Iterable[Metric]:
        running = GaugeMetricFamily("mminstruct_running", "Requests that are being answered.", labels=["model"])
        waiting = GaugeMetricFamily("mminstruct_waiting", "Requests that wait for their turn.", labels=["model"])
        steps = CounterMetricFamily("mminstruct_steps", "Tokens generated since the start.", labels=["model"])
        for name, engine in self._models.items():
            running.add_metric([name], engine.running)
            waiting.add_metric([name], engine.waiting)
            steps.add_metric([name], engine.steps)
        return running, waiting, steps
