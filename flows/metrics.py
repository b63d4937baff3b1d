"""Metrics of a run, in Prometheus' terms, computed when they are read.

The run only stores the latest state of each step, once per part. docs/watch.md lists the metrics;
``flows.prometheus`` writes them.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from flows.execute import StepResult
from infra.compute.progress import Progress, WrittenParts
from infra.dataset.dataset import Dataset
from infra.dataset.manifest import Counts

Sample = tuple[str, list[str], float]  # a metric's name, the values of its labels, its value

RUNNING = "running"
CACHED = "cached"
COMPLETED = "completed"
FAILED = "failed"
STEP_STATES = (RUNNING, COMPLETED, CACHED, FAILED)
_STEP = ("recipe", "stage", "source")
_DOCUMENTS = (*_STEP, "outcome", "reason")


@dataclass(frozen=True)
class Metric:
    """What a metric is called, and what it says.

    Attributes:
        name: as it is written, with the suffix ``_total`` of counters.
        kind: counters start at zero with each run.
        labels: names of its labels. ``source`` is the source or the model; empty where a step has neither.
        help: one sentence.
    """

    name: str
    kind: Literal["counter", "gauge"]
    labels: tuple[str, ...]
    help: str


METRICS = (
    Metric("gristmill_run_start_timestamp_seconds", "gauge", ("recipe",), "When the run started."),
    Metric(
        "gristmill_run_end_timestamp_seconds",
        "gauge",
        ("recipe",),
        "When the run ended; missing while it runs.",
    ),
    Metric(
        "gristmill_run_state",
        "gauge",
        ("recipe", "state"),
        "1 for the state of the run: running, completed, failed or cancelled.",
    ),
    Metric(
        "gristmill_steps",
        "gauge",
        ("recipe", "state"),
        "Steps of the run that are running, completed, cached (nothing to do) or failed.",
    ),
    Metric(
        "gristmill_step_failures_total",
        "counter",
        _STEP,
        "Attempts at a step that failed, those that were repeated included.",
    ),
    Metric(
        "gristmill_stage_duration_seconds",
        "gauge",
        _STEP,
        "Seconds that the run has spent on a step so far, waiting for other trainings included.",
    ),
    Metric(
        "gristmill_stage_units",
        "gauge",
        _STEP,
        "Units of work of a step: parts, pages of a crawl (its limit), or training steps.",
    ),
    Metric("gristmill_stage_units_completed", "gauge", _STEP, "Of these, the finished ones."),
    Metric(
        "gristmill_documents_total",
        "counter",
        _DOCUMENTS,
        "Documents that the run has processed, by outcome (kept, dropped, failed) and reason.",
    ),
    Metric(
        "gristmill_text_bytes_total",
        "counter",
        _STEP,
        "UTF-8 bytes of the texts that the run has written.",
    ),
    Metric(
        "gristmill_written_bytes_total",
        "counter",
        _STEP,
        "Bytes of all files of the parts that the run has written.",
    ),
    Metric(
        "gristmill_tokens_total",
        "counter",
        _STEP,
        "Tokens that the run has written (tokenize) or trained on (train).",
    ),
    Metric(
        "gristmill_dataset_documents",
        "gauge",
        _DOCUMENTS,
        "Documents of a step's committed data set, whichever run made it, by outcome and reason.",
    ),
    Metric("gristmill_dataset_bytes", "gauge", _STEP, "Bytes of all files of that data set."),
    Metric("gristmill_dataset_tokens", "gauge", _STEP, "Tokens of that data set (tokenize)."),
    Metric("gristmill_crawl_fetched_pages", "gauge", _STEP, "Pages that a crawl has fetched."),
    Metric(
        "gristmill_crawl_queued_pages",
        "gauge",
        _STEP,
        "Pages in the next level of a crawl.",
    ),
    Metric(
        "gristmill_registry_mirror_failures_total",
        "counter",
        ("recipe",),
        "Updates of the MLflow registry that failed; the next run makes up for them.",
    ),
    Metric("gristmill_train_step", "gauge", _STEP, "Training step that was logged last."),
    Metric("gristmill_train_loss", "gauge", _STEP, "Training loss, in nats per token."),
    Metric("gristmill_train_validation_loss", "gauge", _STEP, "Loss on held-out tokens, in nats."),
    Metric(
        "gristmill_train_tokens_per_second",
        "gauge",
        _STEP,
        "Tokens trained on per second of wall-clock time, stalls included.",
    ),
)

# Values of `Progress.values` that are metrics as they are.
_VALUE_METRICS = {
    "fetched": "gristmill_crawl_fetched_pages",
    "queued": "gristmill_crawl_queued_pages",
    "step": "gristmill_train_step",
    "loss": "gristmill_train_loss",
    "validation_loss": "gristmill_train_validation_loss",
    "tokens_per_second": "gristmill_train_tokens_per_second",
}


@dataclass
class _StepState:
    """What is known of a step, or of a data set that a step makes for itself, such as signatures."""

    state: str | None = None  # None: no step of the pipeline
    start: float = 0.0
    seconds: float | None = None  # None while it runs
    failures: int = 0
    tokens: float = 0.0
    values: dict[str, float] = field(default_factory=dict)
    progress: Progress | None = None
    result: StepResult | None = None


class RunMetrics:
    """Stores the state of a run, and computes its metrics from it."""

    def __init__(self, recipe: str) -> None:
        """Start with a run of a recipe that starts now."""
        self._recipe = recipe
        self._state, self._start, self._end = RUNNING, time.time(), 0.0
        self._mirror_failures: int | None = None  # without an MLflow registry
        self._steps: dict[tuple[str, str], _StepState] = {}
        self._lock = threading.Lock()

    def step_started(self, stage: str, source: str | None) -> None:
        """Record the start of a step, or of another attempt at it."""
        with self._lock:
            step = self._step(stage, source)
            if step.state is None:
                step.start = time.monotonic()
            step.state, step.seconds = RUNNING, None

    def step_finished(self, result: StepResult) -> None:
        """Record the data set of a finished step."""
        with self._lock:
            step = self._step(result.stage, result.entry or result.source)
            step.state = CACHED if result.cached else COMPLETED
            step.seconds = time.monotonic() - step.start
            step.result = result

    def step_failed(self, stage: str, source: str | None) -> None:
        """Record that an attempt at a step failed."""
        with self._lock:
            step = self._step(stage, source)
            step.state, step.failures = FAILED, step.failures + 1
            step.seconds = time.monotonic() - step.start

    def registry_mirrored(self, succeeded: bool) -> None:  # noqa: FBT001 - the result of a call
        """Record whether the MLflow registry was updated."""
        with self._lock:
            self._mirror_failures = (self._mirror_failures or 0) + (not succeeded)

    def run_finished(self, state: str) -> None:
        """Record the end of the run."""
        with self._lock:
            self._state, self._end = state, time.time()

    def update(self, progress: Progress) -> None:
        """Store the latest state of a stage."""
        with self._lock:
            step = self._step(progress.stage, progress.source)
            step.progress = progress
            if progress.values:
                step.values |= progress.values
                step.tokens += progress.values.get("tokens", 0.0)

    def link(self, name: str, url: str) -> None:
        """Ignore it."""

    def samples(self) -> Iterator[Sample]:
        """Yield the present values of all metrics."""
        with self._lock:
            yield from self._run_samples()
            for (stage, source), step in self._steps.items():
                yield from _step_samples([self._recipe, stage, source], step)

    def _step(self, stage: str, source: str | None) -> _StepState:
        return self._steps.setdefault((stage, source or ""), _StepState())

    def _run_samples(self) -> Iterator[Sample]:
        labels = [self._recipe]
        yield "gristmill_run_start_timestamp_seconds", labels, self._start
        if self._end:
            yield "gristmill_run_end_timestamp_seconds", labels, self._end
        yield "gristmill_run_state", [*labels, self._state], 1
        if self._mirror_failures is not None:
            yield "gristmill_registry_mirror_failures_total", labels, self._mirror_failures
        states = Counter(step.state for step in self._steps.values())
        for state in STEP_STATES:
            yield "gristmill_steps", [*labels, state], states[state]


def _step_samples(labels: list[str], step: _StepState) -> Iterator[Sample]:
    progress, result = step.progress, step.result
    if step.state is not None:
        seconds = time.monotonic() - step.start if step.seconds is None else step.seconds
        yield "gristmill_stage_duration_seconds", labels, seconds
        yield "gristmill_step_failures_total", labels, step.failures
    for name, metric in _VALUE_METRICS.items():
        if name in step.values:
            yield metric, labels, step.values[name]
    built = result.dataset if result is not None and not result.cached else None
    counts: Counts | WrittenParts | None = built.counts if built is not None else None
    if progress is not None:
        if progress.total and not progress.phase:
            yield "gristmill_stage_units", labels, progress.total
            yield "gristmill_stage_units_completed", labels, progress.completed
        if progress.written is not None:
            counts = progress.written
            yield "gristmill_text_bytes_total", labels, counts.text_bytes
            yield "gristmill_written_bytes_total", labels, counts.file_bytes
    if counts is not None:
        yield from _document_samples("gristmill_documents_total", labels, counts)
    tokens = step.tokens + (count_tokens(built) if built is not None else 0)
    if tokens:
        yield "gristmill_tokens_total", labels, tokens
    if result is not None:
        dataset = result.dataset
        yield from _document_samples("gristmill_dataset_documents", labels, dataset.counts)
        size = sum(file.bytes for file in dataset.manifest.all_files)
        yield "gristmill_dataset_bytes", labels, size
        if in_shards := count_tokens(dataset):
            yield "gristmill_dataset_tokens", labels, in_shards


def count_tokens(dataset: Dataset) -> int:
    """Return how many tokens the shards of a data set hold; 0 for other data sets."""
    by_split = dataset.stats.get("tokens")
    return sum(by_split.values()) if isinstance(by_split, Mapping) else 0


def _document_samples(
    name: str, labels: list[str], counts: Counts | WrittenParts
) -> Iterator[Sample]:
    yield name, [*labels, "kept", ""], counts.kept
    for outcome, reasons in (("dropped", counts.dropped), ("failed", counts.failed)):
        for reason, number in sorted(reasons.items()):
            yield name, [*labels, outcome, reason], number
