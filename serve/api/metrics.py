"""Metrics in Prometheus' format."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from serve.engines.interface import Load

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_TOKEN_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class ModelLoad:
    """What an engine of a model is doing; without a registry the version is empty."""

    model: str
    engine: str
    version: str
    load: Load


class _Loads(Collector):
    """Asks the engines when Prometheus asks."""

    def __init__(
        self, read: Callable[[], Iterable[ModelLoad]], read_queue: Callable[[], int]
    ) -> None:
        self._read = read
        self._read_queue = read_queue

    def collect(self) -> Iterator[Metric]:
        labels = ["model", "engine"]
        running = GaugeMetricFamily("gristmill_running_sequences", "Being generated", labels=labels)
        waiting = GaugeMetricFamily("gristmill_waiting_sequences", "Without a slot", labels=labels)
        slots = GaugeMetricFamily("gristmill_slots", "Generated at once", labels=labels)
        cached = CounterMetricFamily(
            "gristmill_prefix_cache_hit_tokens", "Prompt tokens from the cache", labels=labels
        )
        info = GaugeMetricFamily(
            "gristmill_model_info", "Served models", labels=["model", "engine", "version"]
        )
        for item in self._read():
            key = [item.model, item.engine]
            running.add_metric(key, item.load.running)
            waiting.add_metric(key, item.load.waiting)
            slots.add_metric(key, item.load.slots)
            cached.add_metric(key, item.load.cached_tokens)
            info.add_metric([*key, item.version], 1)
        requests = GaugeMetricFamily("gristmill_requests_in_progress", "Admitted and not ended")
        requests.add_metric([], self._read_queue())
        yield from (running, waiting, slots, cached, info, requests)


class Metrics:
    """The metrics of one endpoint.

    Args:
        read_loads: returns what the engines are doing.
        read_queue: returns how many requests are admitted.
    """

    def __init__(
        self, read_loads: Callable[[], Iterable[ModelLoad]], read_queue: Callable[[], int]
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Loads(read_loads, read_queue))
        registry = self._registry
        self._requests = Counter(
            "gristmill_requests", "Requests", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "gristmill_request_seconds",
            "Of a request",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._prompt = Counter("gristmill_prompt_tokens", "Read", ["model"], registry=registry)
        self._generated = Counter(
            "gristmill_generated_tokens", "Written", ["model"], registry=registry
        )
        self._first = Histogram(
            "gristmill_time_to_first_token_seconds",
            "From the request to its first token",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._per_token = Histogram(
            "gristmill_time_per_output_token_seconds",
            "Between tokens, on the mean of a request",
            ["model"],
            buckets=_TOKEN_SECONDS,
            registry=registry,
        )
        self._swaps = Counter(
            "gristmill_model_swaps", "Changed models", ["model"], registry=registry
        )

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Count a request that has ended; 499 if its client had gone."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def count_tokens(self, model: str, prompt: int, generated: int) -> None:
        """Count the tokens of a request."""
        self._prompt.labels(model).inc(prompt)
        self._generated.labels(model).inc(generated)

    def observe_first_token(self, model: str, seconds: float) -> None:
        """Record how long a request waited for its first token."""
        self._first.labels(model).observe(seconds)

    def observe_token(self, model: str, seconds: float) -> None:
        """Record the mean time between tokens of a request."""
        self._per_token.labels(model).observe(seconds)

    def count_swap(self, model: str) -> None:
        """Count that a model has taken the place of another."""
        self._swaps.labels(model).inc()

    def render(self) -> bytes:
        """Return all metrics as text."""
        return generate_latest(self._registry)
