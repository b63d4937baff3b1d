"""An OpenTelemetry trace of a run, if the ``OTEL_...`` variables say where traces go.

Prefect makes a span of each flow run and task run as soon as there is a tracer provider. This module
sets one up, adds what a step did to its span, and makes a span of every batch of parts. Without the
variables it imports nothing.
"""

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.execute import StepResult
from infra.compute.progress import Progress, WrittenParts
from infra.errors import UserError

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
BATCH_INTERVAL_S = 5.0  # a span covers the parts that finished within so long
SERVICE_NAME = "gristmill"


def is_tracing_wanted() -> bool:
    """Return whether the environment asks for traces, as OpenTelemetry's specification has it."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "")
    if exporter not in ("", "otlp"):  # `none`, or one that is not ours
        return False
    return exporter == "otlp" or any(os.environ.get(name) for name in ENDPOINTS)


def start_tracing() -> None:
    """Set up the export of spans, unless ``opentelemetry-instrument`` has done so.

    It has to be called before the flow run starts, which has the first span.

    Raises:
        UserError: if traces are wanted, and the exporter is not installed.
    """
    if not is_tracing_wanted():
        return
    from opentelemetry import trace

    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return
    protocol = os.environ.get(
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    )
    if protocol not in (None, "", "http/protobuf"):
        raise UserError(f"OTEL_EXPORTER_OTLP_PROTOCOL: {protocol}; only http/protobuf is supported")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise UserError(
            f"the environment asks for OpenTelemetry traces ({', '.join(ENDPOINTS)}), but {error.name} "
            "is not installed; pip install 'gristmill[otel]', or set OTEL_SDK_DISABLED=true"
        ) from None
    attributes = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    is_named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in attributes
    resource = Resource.create({} if is_named else {"service.name": SERVICE_NAME})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


@dataclass
class _Batch:
    """Parts that finished within an interval: its start, and the progress at its start and since."""

    start_ns: int
    first: Progress
    last: Progress


class RunTrace:
    """Adds a run's steps and part batches to its trace; does nothing if there is none."""

    def __init__(self, recipe: str) -> None:
        """Trace a run of a recipe."""
        self._attributes = {"gristmill.recipe": recipe}
        self._tracer: Any = None
        if is_tracing_wanted():
            from opentelemetry import trace

            self._tracer = trace.get_tracer(SERVICE_NAME)
        self._batches: dict[tuple[str, str | None, str | None], _Batch] = {}
        self._lock = threading.Lock()

    def run_started(self, run_id: str) -> None:
        """Name the run in the flow run's span."""
        self._attributes["gristmill.run"] = run_id
        self._set_attributes({})

    def step_started(self, stage: str, source: str | None) -> None:
        """Name the step in its task run's span."""
        self._set_attributes({"gristmill.stage": stage, "gristmill.source": source or ""})

    def step_finished(self, result: StepResult) -> None:
        """Add a step's counts to its span."""
        if self._tracer is None:
            return
        self._end_batch(result.stage, result.entry or result.source)
        counts = result.dataset.counts
        values = {
            "dataset": result.folder,
            "cached": result.cached,
            "documents.in": counts.n_in,
            "documents.kept": counts.kept,
            "documents.dropped": sum(counts.dropped.values()),
            "documents.failed": sum(counts.failed.values()),
        }
        self._set_attributes({f"gristmill.{key}": value for key, value in values.items()})

    def step_failed(self, stage: str, source: str | None) -> None:
        """End the batch of the failed step; Prefect's span has the error."""
        if self._tracer is not None:
            self._end_batch(stage, source)

    def update(self, progress: Progress) -> None:
        """Count a part; the current span of the calling thread is that of its step."""
        if self._tracer is None:
            return
        key, now = (progress.stage, progress.source, progress.phase), time.time_ns()
        with self._lock:
            batch = self._batches.setdefault(key, _Batch(now, progress, progress))
            batch.last = progress
            is_last = progress.completed == progress.total
            if is_last or now - batch.start_ns > BATCH_INTERVAL_S * 1e9:
                self._write(batch, now)
                self._batches[key] = _Batch(now, progress, progress)

    def link(self, name: str, url: str) -> None:
        """Ignore it."""

    def _set_attributes(self, values: Mapping[str, Any]) -> None:
        if self._tracer is not None:
            from opentelemetry import trace

            trace.get_current_span().set_attributes({**self._attributes, **values})

    def _end_batch(self, stage: str, source: str | None) -> None:
        with self._lock:
            for key in [key for key in self._batches if key[:2] == (stage, source)]:
                self._write(self._batches.pop(key), time.time_ns())

    def _write(self, batch: _Batch, end_ns: int) -> None:
        first, last = batch.first, batch.last
        units = last.completed - first.completed
        if units <= 0:
            return
        written, before = last.written or WrittenParts(), first.written or WrittenParts()
        attributes: dict[str, Any] = {
            **self._attributes,
            "gristmill.stage": last.stage,
            "gristmill.source": last.source or "",
            "gristmill.units": units,
            "gristmill.documents": written.documents - before.documents,
            "gristmill.written_bytes": written.file_bytes - before.file_bytes,
        }
        if last.phase is not None:
            attributes["gristmill.phase"] = last.phase
        if last.values and "loss" in last.values:
            attributes["gristmill.loss"] = last.values["loss"]
        name = f"{last.stage} batch"
        span = self._tracer.start_span(name, attributes=attributes, start_time=batch.start_ns)
        span.end(end_ns)
