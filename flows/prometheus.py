"""Write a run's metrics in Prometheus' format: to an HTTP endpoint, a file, a Pushgateway."""

import errno
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from prometheus_client import (
    CollectorRegistry,
    push_to_gateway,
    start_http_server,
    write_to_textfile,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import basic_auth_handler, default_handler
from prometheus_client.registry import Collector

from flows.metrics import METRICS, RunMetrics
from flows.metrics_targets import ENV_VAR, Target
from infra.errors import UserError

JOB = "gristmill"  # the job of pushed metrics
WRITE_INTERVAL_S = 10.0  # between two writes of the file, and between two pushes
PUSH_TIMEOUT_S = 5.0

Family = CounterMetricFamily | GaugeMetricFamily

log = logging.getLogger(__name__)


class RunCollector(Collector):
    """Reads the metrics of a run whenever Prometheus asks for them."""

    def __init__(self, metrics: RunMetrics) -> None:
        """Read these."""
        self._metrics = metrics

    def describe(self) -> Iterator[Family]:
        """Yield all metrics without values."""
        yield from _families().values()

    def collect(self) -> Iterator[Family]:
        """Yield all metrics."""
        families = _families()
        for name, labels, value in self._metrics.samples():
            families[name].add_metric(labels, value)
        yield from families.values()


def new_registry(metrics: RunMetrics) -> CollectorRegistry:
    """Return a registry of these metrics alone."""
    registry = CollectorRegistry()
    registry.register(RunCollector(metrics))
    return registry


@contextmanager
def serve(registry: CollectorRegistry, target: Target) -> Iterator[None]:
    """Serve ``/metrics`` while the block lasts.

    Raises:
        UserError: if the address is not one of this machine.
    """
    host, port = target.host_and_port
    try:
        httpd, thread = start_http_server(port, host, registry)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise UserError(f"{ENV_VAR}: cannot listen on {target.where}: {error}") from error
        # Most likely another run of this machine: this one is worth more than its metrics.
        log.warning("%s: %s is in use; this run has no metrics endpoint", ENV_VAR, target.where)
        yield
        return
    try:
        yield
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


@contextmanager
def write_file(registry: CollectorRegistry, target: Target, recipe: str) -> Iterator[None]:
    """Write a file for node_exporter every few seconds while the block lasts, and at its end."""
    path = Path(target.where) / f"gristmill_{recipe}.prom"
    with _repeat(lambda: write_to_textfile(str(path), registry), target):
        yield


@contextmanager
def push(registry: CollectorRegistry, target: Target, recipe: str) -> Iterator[None]:
    """Push to a Pushgateway every few seconds while the block lasts, and at its end."""
    url = urlsplit(target.where)
    user, password = unquote(url.username or ""), unquote(url.password or "")
    gateway = target.shown.removeprefix("push:")

    def handle(
        url: str, method: str, timeout: float | None, headers: list[tuple[str, str]], data: bytes
    ) -> Callable[[], None]:
        if user:
            return basic_auth_handler(url, method, timeout, headers, data, user, password)
        return default_handler(url, method, timeout, headers, data)

    def push_once() -> None:
        push_to_gateway(gateway, JOB, registry, {"recipe": recipe}, PUSH_TIMEOUT_S, handle)

    with _repeat(push_once, target):
        yield


@contextmanager
def _repeat(write: Callable[[], None], target: Target) -> Iterator[None]:
    """Call ``write`` every few seconds while the block lasts, and at its end; log the first failure in a row."""
    ended = threading.Event()
    failing = False

    def attempt() -> None:
        nonlocal failing
        try:
            write()
            failing = False
        except Exception as error:  # noqa: BLE001 - metrics must never stop the work
            if not failing:
                log.warning("metrics could not be written to %s: %s", target.shown, error)
            failing = True

    def repeat() -> None:
        attempt()
        while not ended.wait(WRITE_INTERVAL_S):
            attempt()

    thread = threading.Thread(target=repeat, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        attempt()


def _families() -> dict[str, Family]:
    kinds: dict[str, type[Family]] = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
    return {m.name: kinds[m.kind](m.name, m.help, labels=m.labels) for m in METRICS}
