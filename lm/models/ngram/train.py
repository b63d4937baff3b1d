"""Count and estimate a model on the cluster, in bounded memory, and commit it.

Windows (``windows``) are shuffled by their first two ids into ranges of about ``RANGE_WINDOWS``; a task
counts one range, and another one estimates its piece of the trie. Pieces in the order of their ranges
are the trie, so its bytes do not depend on the ranges. A task whose result is saved does not run
again after a crash.
"""

import io
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from infra.compute.arrays import I64, U64
from infra.compute.phases import PhaseRunner
from infra.compute.progress import Progress
from infra.compute.shuffle import Shuffle
from infra.dataset.dataset import Dataset, PartRef, open_dataset
from infra.dataset.manifest import Counts, DatasetNotFoundError
from infra.dataset.stage import Context, DatasetSpec, Stage, commit_files
from infra.dataset.work_folder import build_in_work_folder
from infra.errors import UserError
from infra.formats.megatron import TRAIN, iter_split_parts, read_split
from infra.store.storage import Storage
from lm.models.ngram.config import NgramEntry
from lm.models.ngram.counts import OrderCounts, count_windows
from lm.models.ngram.estimate import Estimate, RangeTotals, total_range
from lm.models.ngram.files import CONFIG_FILE, MODEL_FILE, ArrayWriter
from lm.models.ngram.windows import WindowFormat

STAGE = Stage("train", modules=("lm.models.ngram.train",), libraries=("numpy",))
# Windows of a range. Its task holds up to 250 bytes of each at order 5: the smallest worker has 512 MiB.
RANGE_WINDOWS = 1 << 20
# Every so many windows of a part, in order, one is taken to divide all of them into ranges.
SAMPLE_INTERVAL = 1 << 10
PIECE_ARRAYS = ("words", "discounted", "children", "backoff")


class NoTrainingTokensError(UserError):
    """The training split is empty."""


@dataclass(frozen=True)
class CountingJob:
    """What the tasks of all phases need. Picklable.

    Attributes:
        window: the format of windows.
        prune: by order.
        dtype: type of the ids in shards.
        work: the work folder.
        parts: parts with tokens of the training split.
        bounds: uint64[ranges - 1], ascending: the first two ids, as one number, at which each range
            but the first begins.
    """

    window: WindowFormat
    prune: tuple[int, ...]
    dtype: str
    work: Storage
    parts: Sequence[PartRef]
    bounds: tuple[int, ...] = ()

    @property
    def order(self) -> int:
        """The highest order."""
        return len(self.prune)

    @property
    def shuffle(self) -> Shuffle:
        """The shuffle of windows into ranges."""
        return Shuffle(self.work.subdir("windows"), len(self.bounds) + 1, self.window.width)

    def read_windows(self, part: PartRef) -> U64:
        """Return the windows of a part."""
        return self.window.pack(read_split(part, self.dtype, TRAIN))

    def save_arrays(self, name: str, arrays: Mapping[str, Any]) -> None:
        """Save arrays for a later phase."""
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        self.work.write(name, buffer.getvalue(), durable=False)

    def load_arrays(self, name: str) -> Mapping[str, Any]:
        """Load what ``save_arrays`` wrote."""
        with np.load(io.BytesIO(self.work.read(name)), allow_pickle=False) as arrays:
            return dict(arrays)


def spec(ctx: Context, config: NgramEntry, tokens: Dataset) -> DatasetSpec:  # noqa: ARG001
    """Describe the model that is counted from these token shards."""
    model = {"order": config.model.order, "prune": list(config.model.prune_by_order)}
    return DatasetSpec(STAGE, config.name, {"family": config.family, "model": model}, (tokens,))


def build(ctx: Context, spec: DatasetSpec, config: NgramEntry, tokens: Dataset) -> Dataset:
    """Count the training split, and commit the model.

    Returns:
        A data set of ``model.safetensors`` (the arrays of ``NgramModel``), ``config.json`` and
        ``tokenizer.json``.

    Raises:
        NoTrainingTokensError: if the training split is empty.
    """
    try:
        return open_dataset(ctx.storage.subdir(*spec.folder.split("/")))
    except DatasetNotFoundError:
        pass
    parts = [part for part, _ in iter_split_parts(tokens, TRAIN)]
    if not tokens.stats["tokens"][TRAIN]:
        raise NoTrainingTokensError(
            f"train.{config.name}: no document is left to count; check select's thresholds and "
            "tokenize.validation_fraction"
        )
    prune = config.model.prune_by_order
    window = WindowFormat(
        int(tokens.stats["vocab_size"]), int(tokens.stats["eos_id"]), max(len(prune), 2)
    )
    dtype = str(tokens.stats.get("dtype", "uint16"))

    def count_and_commit(work: Storage) -> Dataset:
        job = CountingJob(window, prune, dtype, work, parts)
        with tempfile.TemporaryDirectory(prefix="gristmill-ngram-") as scratch:
            folder = Path(scratch)
            trained_tokens = tokens.stats["tokens"][TRAIN]
            stats = _train(ctx, job, folder, trained_tokens)
            (folder / "tokenizer.json").write_bytes(tokens.read("tokenizer.json"))
            documents = tokens.stats["documents"][TRAIN]
            return commit_files(
                ctx,
                spec,
                {path.name: path for path in sorted(folder.iterdir())},
                counts=Counts(documents, documents),
                stats={
                    **stats,
                    "vocab_size": window.vocab_size,
                    "tokens": trained_tokens,
                    "steps": 1,
                    "epochs": 1.0,
                    "init_from": None,
                },
            )

    return build_in_work_folder(ctx, spec, [RANGE_WINDOWS], count_and_commit)


def _train(ctx: Context, job: CountingJob, folder: Path, tokens: int) -> dict[str, Any]:
    """Write ``model.safetensors`` and ``config.json``; return statistics."""
    runner = PhaseRunner(ctx.cluster, ctx.reporter, job.work, STAGE.name)
    job = _divide(runner, job)
    numbers = range(len(job.parts))
    runner.run("shuffle windows", shuffle_part, [(job, number) for number in numbers])
    ranges = range(len(job.bounds) + 1)
    sizes = runner.run("count n-grams", count_range, [(job, number) for number in ranges])
    totals = reduce(
        RangeTotals.__add__,
        (RangeTotals(**job.load_arrays(f"totals/{number:06d}.npz")) for number in ranges),
    )
    job.save_arrays("totals/all.npz", vars(totals))
    runner.run("estimate probabilities", estimate_range, [(job, number) for number in ranges])
    estimate = Estimate.from_totals(totals)
    for order in estimate.fallbacks:
        message = f"order {order}: too few counts to estimate discounts; using the usual values"
        ctx.reporter.update(Progress(STAGE.name, None, 0, 1, message))
    by_order = [job.window.vocab_size, *np.array(sizes, np.int64).sum(axis=0).tolist()]
    config = {
        "family": "ngram",
        "order": job.order,
        "prune": list(job.prune),
        "eos": job.window.eos,
        "sizes": by_order,
        "discounts": [list(item) for item in estimate.discounts],
        "fallback_discounts": list(estimate.fallbacks),
    }
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    _write_model(job, estimate, by_order, folder / MODEL_FILE)
    return {
        "parameters": sum(by_order),
        "order": job.order,
        "ngrams": by_order,
        "fallback_discounts": list(estimate.fallbacks),
        **runner.training_stats(tokens),
    }


def _divide(runner: PhaseRunner, job: CountingJob) -> CountingJob:
    """Return the job with the bounds of its ranges."""
    tokens = sum(part.record.files[f"{TRAIN}.bin"].bytes for part in job.parts)
    ranges = -(-tokens // (np.dtype(job.dtype).itemsize * RANGE_WINDOWS))
    if ranges == 1:
        return job
    samples = runner.run(
        "sample windows", sample_part, [(job, number) for number in range(len(job.parts))]
    )
    pairs = np.sort(np.array([pair for sample in samples for pair in sample], np.uint64))
    bounds = pairs[np.arange(1, ranges) * len(pairs) // ranges]
    return replace(job, bounds=tuple(np.unique(bounds).tolist()))


def sample_part(job: CountingJob, number: int) -> list[int]:
    """Return the first two ids of every ``SAMPLE_INTERVAL``-th window of a part, in order."""
    pairs = np.sort(job.window.first_two(job.read_windows(job.parts[number])))
    sample: list[int] = pairs[SAMPLE_INTERVAL // 2 :: SAMPLE_INTERVAL].tolist()
    return sample


def shuffle_part(job: CountingJob, number: int) -> int:
    """Write the windows of a part by range."""
    rows = job.read_windows(job.parts[number])
    bounds = np.array(job.bounds, np.uint64)
    ranges = np.searchsorted(bounds, job.window.first_two(rows), side="right")
    job.shuffle.write_rows(number, ranges.astype(np.int64), rows)
    return len(rows)


def count_range(job: CountingJob, number: int) -> list[int]:
    """Count the n-grams of a range; return how many of each order from 2 on are kept."""
    rows = job.shuffle.read_partition(number, range(len(job.parts))).copy()
    counted = count_windows(rows, job.window, job.order, job.prune) if job.order > 1 else []
    totals = total_range(rows, job.window, job.order, counted)
    job.save_arrays(f"totals/{number:06d}.npz", vars(totals))
    arrays = {
        f"{name}{order}": values
        for order, level in enumerate(counted, 2)
        for name, values in vars(level).items()
    }
    job.save_arrays(f"counts/{number:06d}.npz", arrays)
    return [int(level.kept.sum()) for level in counted]


def estimate_range(job: CountingJob, number: int) -> int:
    """Write a range's piece of the trie: an array file per order and array."""
    estimate = Estimate.from_totals(RangeTotals(**job.load_arrays("totals/all.npz")))
    arrays = job.load_arrays(f"counts/{number:06d}.npz")
    counted = [
        OrderCounts(*(arrays[f"{name}{order}"] for name in ("parents", "words", "counts", "kept")))
        for order in range(2, job.order + 1)
    ]
    for order, piece in enumerate(estimate.estimate_range(counted), 2):
        for name in PIECE_ARRAYS:
            data = getattr(piece, name).astype(getattr(piece, name).dtype.newbyteorder("<"))
            job.work.write(_piece_file(order, name, number), data.tobytes(), durable=False)
    return sum(len(level.words) for level in counted)


def _piece_file(order: int, name: str, number: int) -> str:
    return f"pieces/{order:02d}-{name}-{number:06d}"


def _write_model(job: CountingJob, estimate: Estimate, sizes: Sequence[int], path: Path) -> None:
    """Concatenate the pieces, order by order; at no time is more than one of them in memory."""
    first = estimate.first_piece(job.order)

    def pieces(name: str, dtype: str, orders: int) -> Iterator[Any]:
        yield getattr(first, name).astype(dtype)
        for order in range(2, orders + 1):
            for number in range(len(job.bounds) + 1):
                yield np.frombuffer(job.work.read(_piece_file(order, name, number)), dtype)

    nodes, contexts = sum(sizes), sum(sizes[:-1])
    with ArrayWriter(
        path,
        {
            "discounted": ("F64", nodes),
            "children": ("I64", contexts + 1),
            "backoff": ("F64", contexts),
            "words": ("I32", nodes),  # last: the others are aligned to 8 bytes
        },
    ) as writer:
        for array in pieces("discounted", "<f8", job.order):
            writer.write(array)
        end = np.array([job.window.vocab_size], "<i8")  # the children of node 0 follow the ids
        writer.write(end)
        for array in pieces("children", "<i8", job.order - 1):
            ends: I64 = end[-1] + np.cumsum(array)
            writer.write(ends)
            end = ends if len(ends) else end
        for array in pieces("backoff", "<f8", job.order - 1):
            writer.write(array)
        for array in pieces("words", "<i4", job.order):
            writer.write(array)
