"""Find the documents of training steps, and the steps of a document.

Steps are counted from 0; the log line of ``step`` n is written after the steps below n.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa

from infra.dataset.dataset import Dataset, open_dataset
from infra.dataset.manifest import DatasetNotFoundError
from infra.errors import UserError
from infra.formats.megatron import TRAIN, VALIDATION, TokenShards
from infra.store.cache_dir import cache_root
from infra.store.storage import Storage
from lm.config.train import TrainConfig
from lm.data.sampler import Sampler, SamplingPlan, build_sampler, open_training_tokens
from lm.data.shuffle import Indices, batch_for_step, merge_ranges
from lm.metrics.logger import read_jsonl
from lm.train.job import TrainJob
from views.documents.lookup import search

COLUMNS = ("id", "url", "source")


class TraceError(UserError):
    """The run has no such step, or did not train on the document."""


@dataclass(frozen=True)
class TracedRun:
    """A training run with the order of its data.

    Attributes:
        name: of the model.
        path: its data set, or its working folder while it is in progress.
        steps: number of steps completed so far.
        shards: the training split.
        init_from: the model that it was initialized from, whose steps are not included.
    """

    name: str
    path: str
    steps: int
    in_progress: bool
    sampler: Sampler
    shards: TokenShards
    init_from: str | None = None


@dataclass(frozen=True)
class DocumentSteps:
    """A document, and the training steps that used it.

    Attributes:
        first_token: its first token in the training split.
        end_token: one past its last token.
        steps: steps whose rows held any of its tokens, with the rows' positions in the batch.
        token_ranges: the tokens of the split that these rows held, ``[first, end)``.
        predicted_tokens: number of predictions of its tokens.
    """

    id: str
    url: str | None
    source: str | None
    first_token: int
    end_token: int
    steps: dict[int, list[int]] = field(default_factory=dict)
    token_ranges: Sequence[tuple[int, int]] = ()
    predicted_tokens: int = 0


def run_from_model(model: Dataset, path: str) -> TracedRun:
    """Return a committed model's run.

    Raises:
        DatasetNotFoundError: if its token shards were deleted.
        TraceError: if it was not trained in steps.
    """
    if "global_batch_size" not in model.stats:
        raise TraceError(
            f"{model.source} has no training steps: it was made of all training documents on the Dask cluster"
        )
    shards = TokenShards(open_training_tokens(model), TRAIN)
    order = build_sampler(SamplingPlan.from_stats(model.stats), shards)
    base = model.stats.get("init_from")
    return TracedRun(str(model.source), path, int(model.stats["steps"]), False, order, shards, base)


def trace_if_in_steps(model: Dataset, path: str) -> TracedRun | None:
    """Return a committed model's run; ``None`` if it has no steps, or its token shards were deleted."""
    try:
        return run_from_model(model, path)
    except (TraceError, DatasetNotFoundError):
        return None


def find_run_in_progress(storage: Storage, name: str) -> TracedRun | None:
    """Return the latest run of a model that is in progress on this machine, if there is one.

    The store is that of its token shards.
    """
    local = storage.local_path()
    root = f"{str(local) if local else storage.url.rstrip('/')}/"
    runs = []
    for path in cache_root().joinpath("train").glob("*/job.json"):
        try:
            job = TrainJob.load(path.parent)
        except (ValueError, KeyError, TypeError):
            continue  # incomplete, or written by a version with other settings
        if (
            isinstance(job.config, TrainConfig)
            and job.config.name == name
            and job.data.url.startswith(root)
        ):
            runs.append((path.stat().st_mtime_ns, job))
    return _load_run_in_progress(max(runs, key=itemgetter(0))[1]) if runs else None


def _load_run_in_progress(job: TrainJob) -> TracedRun:
    config, tokens = job.config, open_dataset(job.data)
    assert isinstance(config, TrainConfig)
    lines, shards = read_jsonl(job.folder / "metrics.jsonl"), TokenShards(tokens, TRAIN)
    order = build_sampler(SamplingPlan.from_config(config, job.seed, job.skip), shards)
    done = int(lines[-1]["step"]) if lines else 0
    return TracedRun(config.name, str(job.folder), done, True, order, shards, config.init_from)


def documents_in_steps(run: TracedRun, first: int, end: int) -> list[DocumentSteps]:
    """Return the documents of the steps ``[first, end)``, in the order of the training split.

    Raises:
        TraceError: if the run has no such steps.
    """
    if not 0 <= first < end <= run.steps:
        so_far = " so far" if run.in_progress else ""
        raise TraceError(
            f"steps {first}:{end}: {run.name} has {run.steps:,} steps{so_far}; give A:B with "
            f"0 <= A < B <= {run.steps}"
        )
    samples = np.concatenate([run.sampler.samples(step) for step in range(first, end)])
    spans, bounds = run.sampler.token_spans(samples), run.shards.document_starts
    # A span of tokens may hold several documents: repeat it once per document.
    span_ends = spans.starts + spans.lengths
    low = np.searchsorted(bounds, spans.starts, side="right") - 1
    counts = np.searchsorted(bounds, span_ends, side="left") - low
    span = np.repeat(np.arange(len(low)), counts)
    documents = np.arange(len(span)) + np.repeat(low - (np.cumsum(counts) - counts), counts)
    starts = np.maximum(bounds[documents], spans.starts[span])
    stops = np.minimum(bounds[documents + 1], span_ends[span])
    predicted = np.maximum(0, stops - np.maximum(starts, spans.target_starts[span]))
    rows = spans.rows[span]
    distinct, index = np.unique(documents, return_inverse=True)
    metadata, result = _describe_documents(run, distinct), []
    order = np.argsort(index, kind="stable")
    groups = np.split(order, np.searchsorted(index[order], range(1, len(distinct))))
    for number, own in enumerate(groups):
        if not len(own):
            continue
        steps: dict[int, set[int]] = {}
        for row in rows[own].tolist():
            step = first + row // run.sampler.plan.global_batch_size
            steps.setdefault(step, set()).add(row % run.sampler.plan.global_batch_size)
        result.append(
            DocumentSteps(
                **metadata[number],
                steps={step: sorted(positions) for step, positions in sorted(steps.items())},
                token_ranges=merge_ranges(
                    list(zip(starts[own].tolist(), stops[own].tolist(), strict=True))
                ),
                predicted_tokens=int(predicted[own].sum()),
            )
        )
    return result


def steps_with_document(run: TracedRun, query: str) -> list[DocumentSteps]:
    """Return the steps that used a document; several if identical rows of a source share their id.

    Args:
        run: the training run, complete or in progress.
        query: a URL or an id, as for `views.documents.lookup.search`.

    Raises:
        DocumentNotFoundError: if no document matches, or several ids begin with the query.
        TraceError: if the document is held out for validation.
    """
    result = []
    for metadata in _describe_documents(run, _find_documents(run, query)):
        first, end = metadata["first_token"], metadata["end_token"]
        steps = run.sampler.steps_containing(first, end, run.steps)
        samples = [
            batch_for_step(step, run.sampler.plan.skip) * run.sampler.plan.global_batch_size
            + position
            for step, positions in steps.items()
            for position in positions
        ]
        spans = run.sampler.token_spans(np.array(samples, np.int64))
        starts = np.maximum(first, spans.starts)
        stops = np.minimum(end, spans.starts + spans.lengths)
        overlaps = starts < stops
        predicted = np.maximum(0, stops - np.maximum(starts, spans.target_starts))
        ranges = zip(starts[overlaps].tolist(), stops[overlaps].tolist(), strict=True)
        result.append(
            DocumentSteps(
                **metadata,
                steps=steps,
                token_ranges=merge_ranges(list(ranges)),
                predicted_tokens=int(predicted.sum()),
            )
        )
    return result


def _find_documents(run: TracedRun, query: str) -> Indices:
    """Return the numbers of the documents of the training split that a query names."""
    splits = (run.shards, TokenShards(run.shards.dataset, VALIDATION))

    def tables() -> Iterator[tuple[str, pa.Table]]:
        for shards in splits:
            for first, table in shards.iter_columns(["id", "url"]):
                numbers = pa.array(range(first, first + table.num_rows), pa.int64())
                yield shards.split, table.append_column("number", numbers)

    matches = search(tables, query)
    numbers = [rows["number"].to_numpy() for split, rows in matches if split == TRAIN]
    if not numbers:
        raise TraceError(f"{query} is held out for validation: {run.name} was not trained on it")
    return np.concatenate(numbers)


def _describe_documents(run: TracedRun, documents: Indices) -> list[dict[str, Any]]:
    """Return id, URL, source and token range of some documents, whose numbers are ascending."""
    rows: list[dict[str, Any]] = []
    for first, table in run.shards.iter_columns(COLUMNS):
        low, high = np.searchsorted(documents, (first, first + table.num_rows))
        own = table.select(COLUMNS).take(pa.array(documents[low:high] - first))
        rows += own.to_pylist()
    ranges = [run.shards.document_range(int(number)) for number in documents]
    return [
        {**row, "first_token": first, "end_token": end}
        for row, (first, end) in zip(rows, ranges, strict=True)
    ]
