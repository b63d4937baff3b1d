"""From a step to the tokens it trains on, and back: the data order of one run.

Samples are numbered over the whole run: sample ``g`` is position ``g % batch_size`` of batch
``g // batch_size``. A pure function maps a sample to a row source (``mixture``), a row of it
(``shuffle``) and the tokens of the row (``row_layout``). Each part has an inverse, so the way back
needs no table either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from infra.dataset.dataset import Dataset, open_dataset
from infra.dataset.manifest import input_path
from infra.errors import UserError
from infra.formats.megatron import TRAIN, TokenShards
from infra.store.storage import Storage
from lm.config.data import CYCLE_SAMPLES, cycle_counts
from lm.config.train import TrainConfig
from lm.data.mixture import Mixture
from lm.data.row_layout import ConcatenatedRows, PackedRows, RowSource, TokenSpans
from lm.data.shuffle import Indices, Ranges, ShuffleOrder, TooFewTokensError, batch_for_step, step_for_batch
from lm.data.streams import StreamOrder

BLOCK_TOKENS = 1 << 22  # of a block of a window: several of the blocks in which a store is read
MIN_WINDOW_BLOCKS = 64  # of a window, so that a small window is shuffled well, too
DEFAULT_SHUFFLE_WINDOW_TOKENS = 268_435_456
BEST_FIT_MASKED = "best_fit_masked"
RowOrder = ShuffleOrder | StreamOrder


@dataclass(frozen=True)
class SamplingPlan:
    """What decides a run's data order, besides the tokens; fields as in ``DataConfig``.

    ``carry_state``: each place of the batch reads on where it stopped in the batch before.
    """

    seed: int
    global_batch_size: int
    context_length: int
    packing: str = "concatenate"
    mixture: Mapping[str, float] | None = None
    shuffle_window_tokens: int = DEFAULT_SHUFFLE_WINDOW_TOKENS
    skip: Ranges = ()
    carry_state: bool = False

    @staticmethod
    def from_config(
        config: TrainConfig, seed: int, skip: Ranges = ()
    ) -> "SamplingPlan":
        """Return the plan of an entry of the recipe's `train` list."""
        return SamplingPlan(
            seed,
            config.sequences_per_step,
            config.model.context_length,
            config.data.packing,
            config.data.mixture,
            config.data.shuffle_window_tokens,
            skip,
            config.carries_state,
        )

    @staticmethod
    def from_stats(stats: Mapping[str, Any]) -> "SamplingPlan":
        """Return the plan that a model's stats record (``to_stats``)."""
        own = {name: stats[name] for name in ("seed", "global_batch_size", "context_length")}
        return SamplingPlan(**own, **stats.get("order", {}), skip=stats.get("skip", ()))

    def to_stats(self) -> dict[str, Any]:
        """Return what ``from_stats`` reads, as JSON."""
        return {
            "seed": self.seed,
            "global_batch_size": self.global_batch_size,
            "context_length": self.context_length,
            "order": {
                "packing": self.packing,
                "mixture": None if self.mixture is None else dict(self.mixture),
                "shuffle_window_tokens": self.shuffle_window_tokens,
                "carry_state": self.carry_state,
            },
            "skip": [list(batches) for batches in self.skip],
        }

    @property
    def needs_no_documents(self) -> bool:
        """Whether the order depends on the number of tokens only, not on the documents."""
        return self.mixture is None and self.packing != BEST_FIT_MASKED


@dataclass(frozen=True)
class Sampler:
    """The data order of one run."""

    plan: SamplingPlan
    source_names: Sequence[str]  # of the row sources; one empty name without a mixture
    row_sources: Sequence[RowSource]
    row_orders: Sequence[RowOrder]  # of each row source
    mixture: Mixture | None  # of the row sources, if there are several

    def samples(self, step: int) -> Indices:
        """Return the samples of a 0-based step: int64[batch_size], by position."""
        first = batch_for_step(step, self.plan.skip) * self.plan.global_batch_size
        return np.arange(first, first + self.plan.global_batch_size, dtype=np.int64)

    def rows(self, samples: Indices) -> tuple[Indices, Indices]:
        """Return each sample's row source, as an index of ``row_sources``, and its row there."""
        if self.mixture is None:
            return np.zeros(len(samples), np.int64), self.row_orders[0].rows_at(samples)
        sources, indices = self.mixture.locate_samples(samples)
        rows = np.empty(len(samples), np.int64)
        for source in np.unique(sources).tolist():
            in_source = sources == source
            rows[in_source] = self.row_orders[source].rows_at(indices[in_source])
        return sources, rows

    def token_spans(self, samples: Indices) -> TokenSpans:
        """Return the tokens of some samples; ``TokenSpans.rows`` are indices of ``samples``."""
        sources, rows = self.rows(samples)
        parts = []
        for source in np.unique(sources).tolist():
            index = np.flatnonzero(sources == source)
            spans = self.row_sources[source].token_spans(rows[index])
            parts.append(TokenSpans(index[spans.rows], spans.columns, spans.starts, spans.lengths))
        return TokenSpans.concat(parts)

    def samples_containing(self, first: int, end: int, steps: int) -> Indices:
        """Return the samples of steps below ``steps`` with any of the tokens ``[first, end)``, ascending.

        Samples of skipped batches are included; ``steps_containing`` leaves them out.
        """
        last = (
            (batch_for_step(steps - 1, self.plan.skip) + 1) * self.plan.global_batch_size
            if steps
            else 0
        )
        per_source = [np.zeros(0, np.int64)]
        for index, (source, order) in enumerate(
            zip(self.row_sources, self.row_orders, strict=True)
        ):
            rows = source.rows_containing(first, end) if first < end else per_source[0]
            if not len(rows):
                continue
            if self.mixture is None:
                per_source.append(order.inverse(rows, last))
            else:
                bound = self.mixture.index_bound(index, last)
                per_source.append(self.mixture.inverse(index, order.inverse(rows, bound)))
        samples = np.unique(np.concatenate(per_source))
        return samples[samples < last]

    def steps_containing(self, first: int, end: int, steps: int) -> dict[int, list[int]]:
        """Return the steps below ``steps`` whose rows have any of the tokens ``[first, end)``.

        Returns:
            For each step, ascending, the positions of these rows in the batch.
        """
        positions: dict[int, list[int]] = {}
        for sample in self.samples_containing(first, end, steps).tolist():
            step = step_for_batch(sample // self.plan.global_batch_size, self.plan.skip)
            if step is not None:
                positions.setdefault(step, []).append(sample % self.plan.global_batch_size)
        return positions

    @property
    def documents(self) -> int:
        """Number of documents in the row sources; 0 if the order does not depend on documents."""
        return sum(source.documents for source in self.row_sources)

    def to_stats(self) -> dict[str, Any]:
        """Return what a model's stats record of the order: ``sampler_for_model`` reads it.

        Returns:
            As ``SamplingPlan.to_stats``, and ``rows_per_epoch`` (of all row sources), ``padding``
            (fraction of an epoch's targets that are padding) and ``row_sources``, each with its
            ``source``, ``rows``, ``tokens`` and ``fraction`` of the samples.
        """
        fractions = (
            [1.0]
            if self.mixture is None
            else [n / CYCLE_SAMPLES for n in self.mixture.cycle_counts]
        )
        rows = sum(source.rows for source in self.row_sources)
        padding = 0.0
        if self.plan.packing == BEST_FIT_MASKED:
            tokens = sum(source.tokens for source in self.row_sources)
            padding = round(1 - tokens / (rows * self.plan.context_length), 6)
        row_sources = [
            {
                "source": name or None,
                "rows": source.rows,
                "tokens": source.tokens,
                "fraction": fraction,
            }
            for name, source, fraction in zip(
                self.source_names, self.row_sources, fractions, strict=True
            )
        ]
        return {
            **self.plan.to_stats(),
            "rows_per_epoch": rows,
            "padding": padding,
            "row_sources": row_sources,
        }


def sampler_for_config(config: TrainConfig, seed: int, tokens: Dataset) -> Sampler:
    """Return the data order of an entry of the recipe's `train` list; errors as ``build_sampler``."""
    plan = SamplingPlan.from_config(config, seed)
    if plan.needs_no_documents:
        return concatenated_sampler(plan, tokens.stats["tokens"][TRAIN])
    return build_sampler(plan, TokenShards(tokens, TRAIN))


def build_sampler(plan: SamplingPlan, shards: TokenShards) -> Sampler:
    """Return the data order of a run over token shards; reads their indices, but no tokens.

    Raises:
        TooFewTokensError: if a row source has less than one row.
        UserError: if the mixture names a source without a document in the training split.
    """
    starts, lengths = shards.document_starts[:-1], np.diff(shards.document_starts)
    if plan.mixture is None:
        if plan.packing != BEST_FIT_MASKED:
            return concatenated_sampler(plan, len(shards))
        packed = PackedRows(starts, lengths, plan.context_length)
        return Sampler(plan, [""], [packed], [_build_order(plan, packed, "", 1.0)], None)
    sources = shards.read_columns(["source"])["source"].to_numpy()
    counts = cycle_counts(plan.mixture)
    row_sources: list[RowSource] = []
    for name in counts:
        documents = np.flatnonzero(sources == name)
        if not len(documents):
            known = ", ".join(sorted({str(source) for source in sources}))
            raise UserError(
                f"train.data.mixture.{name}: the training split has no document of this source; "
                f"its sources are {known}"
            )
        try:
            row_sources.append(_build_row_source(plan, starts[documents], lengths[documents]))
        except TooFewTokensError as error:
            raise TooFewTokensError(f"train.data.mixture.{name}: {error}") from None
    mixture = Mixture(plan.seed, tuple(counts.values()))
    orders = [
        _build_order(plan, source, name, counts[name] / CYCLE_SAMPLES)
        for name, source in zip(counts, row_sources, strict=True)
    ]
    return Sampler(plan, list(counts), row_sources, orders, mixture)


def concatenated_sampler(plan: SamplingPlan, tokens: int) -> Sampler:
    """Return the order of concatenated rows of so many tokens; may raise ``TooFewTokensError``."""
    rows = ConcatenatedRows(np.zeros(1, np.int64), np.array([tokens]), plan.context_length)
    return Sampler(plan, [""], [rows], [_build_order(plan, rows, "", 1.0)], None)


def sampler_for_model(model: Dataset) -> Sampler:
    """Return the data order of a committed model.

    Raises:
        DatasetNotFoundError: if the order depends on the documents and the token shards, which are
            in the same store, were deleted.
    """
    return _load_sampler(model.storage, model.fingerprint)


@lru_cache(maxsize=4)
def _load_sampler(storage: Storage, fingerprint: str) -> Sampler:  # noqa: ARG001 - part of the key
    model = open_dataset(storage)
    plan = SamplingPlan.from_stats(model.stats)
    if plan.needs_no_documents:
        return concatenated_sampler(
            plan, int(model.stats["rows_per_epoch"]) * plan.context_length + 1
        )
    return build_sampler(plan, TokenShards(open_training_tokens(model), TRAIN))


def open_training_tokens(model: Dataset) -> Dataset:
    """Open the token shards of a committed model; may raise ``DatasetNotFoundError``."""
    # The last two names of a data set's URL are its own, wherever the store is.
    root = Storage(model.storage.url.rstrip("/").rsplit("/", 2)[0], model.storage.options)
    tokens = next(item for item in model.manifest.inputs if item["stage"] == "tokenize")
    return open_dataset(root.subdir(*input_path(tokens).split("/")))


def steps_containing(model: Dataset, first: int, end: int) -> list[int]:
    """Return the 0-based steps of a model whose batches had any of the split's tokens ``[first, end)``.

    Raises:
        DatasetNotFoundError: as ``sampler_for_model``.
    """
    return list(sampler_for_model(model).steps_containing(first, end, int(model.stats["steps"])))


def _build_row_source(plan: SamplingPlan, starts: Indices, lengths: Indices) -> RowSource:
    if plan.packing == BEST_FIT_MASKED:
        return PackedRows(starts, lengths, plan.context_length)
    return ConcatenatedRows(*_merge_adjacent(starts, lengths), plan.context_length, len(starts))


def _merge_adjacent(starts: Indices, lengths: Indices) -> tuple[Indices, Indices]:
    """Merge consecutive documents into one run."""
    breaks = np.flatnonzero(starts[1:] != (starts + lengths)[:-1]) + 1
    firsts = np.concatenate([[0], breaks]).astype(np.int64)
    return starts[firsts], np.add.reduceat(lengths, firsts)


def _build_order(
    plan: SamplingPlan, row_source: RowSource, name: str, fraction: float
) -> RowOrder:
    """Return the order of a row source; its window is in proportion to its fraction."""
    if plan.carry_state:
        return StreamOrder(plan.seed, row_source.rows, plan.global_batch_size)
    window = max(1, int(plan.shuffle_window_tokens * fraction))
    if row_source.rows * plan.context_length <= window:
        return ShuffleOrder(plan.seed, row_source.rows, name)
    block = max(1, min(BLOCK_TOKENS, window // MIN_WINDOW_BLOCKS) // plan.context_length)
    return ShuffleOrder(
        plan.seed, row_source.rows, name, block, max(1, window // (block * plan.context_length))
    )
