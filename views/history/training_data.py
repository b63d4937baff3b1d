"""From steps of a run to the documents they learned from, and from a document to its steps.

Steps are counted from 0; the log's line of ``step`` n was written after the steps below n.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.dataset import Dataset, open_dataset
from infra.errors import UserError
from infra.formats.megatron import TRAIN, VALIDATION, TokenShards
from infra.store.cache_dir import cache_root
from infra.store.storage import Storage
from lm.config.train import TrainConfig
from lm.data.sampler import Sampler, SamplingPlan, build_sampler, open_training_tokens
from lm.data.shuffle import Indices, batch_for_step, merge_ranges
from lm.metrics.logger import read_jsonl
from views.documents.lookup import loose_url

MAX_IDS_SHOWN = 5  # ids in a message
COLUMNS = ("id", "url", "source")


class TraceError(UserError):
    """A step, a document or a run that is not there."""


@dataclass(frozen=True)
class TracedRun:
    """A run whose order is known.

    Attributes:
        name: of the model.
        path: its data set, or the folder in which it works.
        steps: done so far.
        in_progress: whether it has not ended.
        sampler: of its data.
        shards: the training split.
        init_from: the model whose weights it started with; its steps are its own.
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
    """A document, and where some steps met it.

    Attributes:
        id: of the document.
        url: its address, if it has one.
        source: of the recipe.
        first_token: of the training split.
        end_token: one past its last.
        steps: the steps whose rows held any of its tokens, with the rows' positions in the batch.
        token_ranges: tokens of the split that these rows held.
        predicted_tokens: how often one of its tokens was to be predicted.
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
    """A committed model's run. Raises ``DatasetNotFoundError`` if its token shards are gone."""
    shards = TokenShards(open_training_tokens(model), TRAIN)
    order = build_sampler(SamplingPlan.from_stats(model.stats), shards)
    base = model.stats.get("init_from")
    return TracedRun(str(model.source), path, int(model.stats["steps"]), False, order, shards, base)


def find_run_in_progress(storage: Storage, name: str) -> TracedRun | None:
    """The run of this model that works on this machine and was started last, if there is one.

    Args:
        storage: the root of the store that its token shards lie in.
        name: of the model.
    """
    local = storage.local_path()
    root = f"{str(local) if local else storage.url.rstrip('/')}/"
    found = []
    for path in cache_root().joinpath("train").glob("*/job.json"):
        try:
            job = json.loads(path.read_bytes())
            config = TrainConfig.model_validate(job["config"])
        except ValueError:
            continue  # it is being written, or was left by a version with other settings
        if config.name == name and str(job["tokens"]["url"]).startswith(root):
            found.append((path.stat().st_mtime_ns, path.parent, config, job))
    return _load_run_in_progress(*max(found, key=itemgetter(0))[1:]) if found else None


def _load_run_in_progress(folder: Path, config: TrainConfig, job: dict[str, Any]) -> TracedRun:
    tokens = open_dataset(Storage(job["tokens"]["url"], job["tokens"]["options"]))
    lines, shards = read_jsonl(folder / "metrics.jsonl"), TokenShards(tokens, TRAIN)
    order = build_sampler(SamplingPlan.from_config(config, job["seed"], job["skip"]), shards)
    done = int(lines[-1]["step"]) if lines else 0
    return TracedRun(config.name, str(folder), done, True, order, shards, config.init_from)


def documents_in_steps(run: TracedRun, first: int, end: int) -> list[DocumentSteps]:
    """What the steps ``[first, end)`` learned from, in the order of the training split.

    Raises:
        NoTrace: if the run has no such steps.
    """
    if not 0 <= first < end <= run.steps:
        so_far = " so far" if run.in_progress else ""
        raise TraceError(
            f"steps {first}:{end}: {run.name} has {run.steps:,} steps{so_far}; give A:B with "
            f"0 <= A < B <= {run.steps}"
        )
    samples = np.concatenate([run.sampler.samples(step) for step in range(first, end)])
    pieces, bounds = run.sampler.token_spans(samples), run.shards.document_starts
    ends = pieces.starts + pieces.lengths
    low = np.searchsorted(bounds, pieces.starts, side="right") - 1
    counts = np.searchsorted(bounds, ends, side="left") - low
    of = np.repeat(np.arange(len(low)), counts)
    documents = np.arange(len(of)) + np.repeat(low - (np.cumsum(counts) - counts), counts)
    starts = np.maximum(bounds[documents], pieces.starts[of])
    stops = np.minimum(bounds[documents + 1], ends[of])
    predicted = np.maximum(0, stops - np.maximum(starts, pieces.target_starts[of]))
    rows = pieces.rows[of]
    every, place = np.unique(documents, return_inverse=True)
    about, result = _describe_documents(run, every), []
    order = np.argsort(place, kind="stable")
    for number, own in enumerate(
        np.split(order, np.searchsorted(place[order], range(1, len(every))))
    ):
        if not len(own):
            continue
        steps: dict[int, set[int]] = {}
        for row in rows[own].tolist():
            at = first + row // run.sampler.plan.global_batch_size
            steps.setdefault(at, set()).add(row % run.sampler.plan.global_batch_size)
        result.append(
            DocumentSteps(
                **about[number],
                steps={step: sorted(positions) for step, positions in sorted(steps.items())},
                token_ranges=merge_ranges(
                    list(zip(starts[own].tolist(), stops[own].tolist(), strict=True))
                ),
                predicted_tokens=int(predicted[own].sum()),
            )
        )
    return result


def steps_with_document(
    run: TracedRun, *, url: str | None = None, document_id: str | None = None
) -> list[DocumentSteps]:
    """Where the run met a document; several if identical rows of a source share their id.

    Args:
        run: so far.
        url: an address, compared as written, then ignoring scheme, a trailing slash and such.
        document_id: a document's id, or the beginning of one.

    Raises:
        NoTrace: if the training split has no such document, or the beginning fits several.
    """
    numbers = _find_documents(run, url, document_id)
    found = []
    for about in _describe_documents(run, numbers):
        first, end = about["first_token"], about["end_token"]
        steps = run.sampler.steps_containing(first, end, run.steps)
        samples = [
            batch_for_step(step, run.sampler.plan.skip) * run.sampler.plan.global_batch_size
            + position
            for step, positions in steps.items()
            for position in positions
        ]
        pieces = run.sampler.token_spans(np.array(samples, np.int64))
        starts = np.maximum(first, pieces.starts)
        stops = np.minimum(end, pieces.starts + pieces.lengths)
        held = starts < stops
        predicted = np.maximum(0, stops - np.maximum(starts, pieces.target_starts))
        ranges = merge_ranges(list(zip(starts[held].tolist(), stops[held].tolist(), strict=True)))
        found.append(
            DocumentSteps(
                **about, steps=steps, token_ranges=ranges, predicted_tokens=int(predicted.sum())
            )
        )
    return found


def _find_documents(run: TracedRun, url: str | None, document_id: str | None) -> Indices:
    """The documents of the training split that are meant."""
    held_out = TokenShards(run.shards.dataset, VALIDATION)
    for exact in (True, False):
        numbers = _match_documents(run.shards, url, document_id, exact=exact)
        if len(numbers):
            return numbers
        if len(_match_documents(held_out, url, document_id, exact=exact)):
            raise TraceError(
                f"{url or document_id} is held out for validation: no step of {run.name} saw it"
            )
    raise TraceError(
        f"no document {url or document_id} in the token shards of {run.name}; `gristmill why` tells what "
        "became of it"
    )


def _match_documents(
    shards: TokenShards, url: str | None, document_id: str | None, *, exact: bool
) -> Indices:
    """The documents of a split that an address or an id names, as written or nearly."""
    table = shards.read_columns(["id", "url"])
    if exact:
        hit = (
            pc.equal(table["id"], document_id)
            if document_id is not None
            else pc.equal(table["url"], url)
        )
    elif document_id is not None:
        hit = pc.starts_with(table["id"], document_id)
        several = sorted(set(table.filter(hit)["id"].to_pylist()))
        if len(several) > 1:
            listed = ", ".join(several[:MAX_IDS_SHOWN]) + (
                ", ..." if len(several) > MAX_IDS_SHOWN else ""
            )
            raise TraceError(f"{document_id!r} is the beginning of {len(several)} ids: {listed}")
    else:
        wanted = loose_url(str(url))
        urls = table["url"].to_pylist()
        hit = pa.array(
            [item is not None and loose_url(item) == wanted for item in urls], pa.bool_()
        )
    return np.flatnonzero(pc.fill_null(hit, fill_value=False).to_numpy(zero_copy_only=False))


def _describe_documents(run: TracedRun, documents: Indices) -> list[dict[str, Any]]:
    """Id, address, source and tokens of some documents."""
    rows = (
        run.shards.read_columns(list(COLUMNS)).select(COLUMNS).take(pa.array(documents)).to_pylist()
    )
    ranges = [run.shards.document_range(int(number)) for number in documents]
    return [
        {**row, "first_token": first, "end_token": end}
        for row, (first, end) in zip(rows, ranges, strict=True)
    ]
