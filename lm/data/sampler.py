"""From a step to the tokens it learns from, and back: the order of one run as a whole.

Samples are numbered through the run: sample ``g`` is position ``g % batch`` of batch ``g // batch``.
A pure function leads from there to a stream (``mixture``), a row of it (``order``) and the tokens of
the row (``rows``); each part has an inverse, so the way back needs no table either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from infra.dataset.dataset import Dataset, input_path, open_dataset
from infra.errors import UserError
from infra.formats.megatron import TRAIN, TokenShards
from infra.store.storage import Storage
from lm.config.data import CYCLE_SAMPLES, cycle_counts
from lm.config.train import TrainConfig
from lm.data.mixture import Mixture
from lm.data.row_layout import ConcatenatedRows, PackedRows, RowSource, TokenSpans
from lm.data.shuffle import Indices, ShuffleOrder, TooFewTokensError, batch_for_step, step_for_batch

BLOCK_TOKENS = 1 << 22  # of a block of a pool: several of the blocks that a store is read in
MIN_WINDOW_BLOCKS = 64  # of a pool, so that a small pool is mixed as well
DEFAULT_SHUFFLE_WINDOW_TOKENS = 268_435_456
BEST_FIT_MASKED = "best_fit_masked"


@dataclass(frozen=True)
class SamplingPlan:
    """What decides the order of a run's data, besides the tokens.

    Attributes:
        seed: the recipe's.
        global_batch_size: rows per step, over all processes.
        context_length: targets of a row.
        packing: ``concatenate``, ``concatenate_masked`` or ``best_fit_masked``.
        mixture: weight of each source that is trained on; ``None``: every document.
        shuffle_window_tokens: about so many tokens are shuffled at a time.
        skip: half-open ranges of batches that are left out.
    """

    seed: int
    global_batch_size: int
    context_length: int
    packing: str = "concatenate"
    mixture: Mapping[str, float] | None = None
    shuffle_window_tokens: int = DEFAULT_SHUFFLE_WINDOW_TOKENS
    skip: Sequence[Sequence[int]] = ()

    @staticmethod
    def from_config(
        config: TrainConfig, seed: int, skip: Sequence[Sequence[int]] = ()
    ) -> "SamplingPlan":
        """The plan of an entry of the recipe's `train` list."""
        return SamplingPlan(
            seed,
            config.sequences_per_step,
            config.model.context_length,
            config.data.packing,
            config.data.mixture,
            config.data.shuffle_window_tokens,
            skip,
        )

    @staticmethod
    def from_stats(stats: Mapping[str, Any]) -> "SamplingPlan":
        """The plan that a model's facts keep (``stats``)."""
        own = {name: stats[name] for name in ("seed", "global_batch_size", "context_length")}
        return SamplingPlan(**own, **stats.get("order", {}), skip=stats.get("skip", ()))

    def to_stats(self) -> dict[str, Any]:
        """What ``from_stats`` needs of a model's facts, as JSON."""
        order = {
            "packing": self.packing,
            "mixture": None if self.mixture is None else dict(self.mixture),
            "shuffle_window_tokens": self.shuffle_window_tokens,
        }
        own = {
            "seed": self.seed,
            "global_batch_size": self.global_batch_size,
            "context_length": self.context_length,
        }
        return {**own, "order": order, "skip": [list(one) for one in self.skip]}

    @property
    def needs_no_documents(self) -> bool:
        """Whether the order follows from the number of tokens alone, whatever documents there are."""
        return self.mixture is None and self.packing != BEST_FIT_MASKED


@dataclass(frozen=True)
class Sampler:
    """The order of one run.

    Attributes:
        plan: what decides it.
        source_names: of the streams; one empty name without a mixture.
        row_sources: what there is to learn from.
        shuffle_orders: of each stream.
        mixture: of the streams; ``None`` if there is one.
    """

    plan: SamplingPlan
    source_names: Sequence[str]
    row_sources: Sequence[RowSource]
    shuffle_orders: Sequence[ShuffleOrder]
    mixture: Mixture | None

    def samples(self, step: int) -> Indices:
        """The samples of a 0-based step: int64[batch], by position."""
        first = batch_for_step(step, self.plan.skip) * self.plan.global_batch_size
        return np.arange(first, first + self.plan.global_batch_size, dtype=np.int64)

    def rows(self, samples: Indices) -> tuple[Indices, Indices]:
        """The stream of each sample, by place in ``row_sources``, and its row there."""
        if self.mixture is None:
            return np.zeros(len(samples), np.int64), self.shuffle_orders[0].rows_at(samples)
        streams, numbers = self.mixture.locate_samples(samples)
        rows = np.empty(len(samples), np.int64)
        for stream in np.unique(streams).tolist():
            mine = streams == stream
            rows[mine] = self.shuffle_orders[stream].rows_at(numbers[mine])
        return streams, rows

    def token_spans(self, samples: Indices) -> TokenSpans:
        """The tokens of some samples; ``Pieces.rows`` counts in ``samples``."""
        streams, rows = self.rows(samples)
        parts = []
        for stream in np.unique(streams).tolist():
            mine = np.flatnonzero(streams == stream)
            own = self.row_sources[stream].token_spans(rows[mine])
            parts.append(TokenSpans(mine[own.rows], own.columns, own.starts, own.lengths))
        return TokenSpans.concat(parts)

    def samples_containing(self, first: int, end: int, steps: int) -> Indices:
        """The samples below a step that hold any of the tokens ``[first, end)``, ascending.

        Samples of skipped batches are among them: ``steps_containing`` leaves them out.
        """
        last = (
            (batch_for_step(steps - 1, self.plan.skip) + 1) * self.plan.global_batch_size
            if steps
            else 0
        )
        found = [np.zeros(0, np.int64)]
        for place, (stream, order) in enumerate(
            zip(self.row_sources, self.shuffle_orders, strict=True)
        ):
            rows = stream.rows_containing(first, end) if first < end else found[0]
            if not len(rows):
                continue
            if self.mixture is None:
                found.append(order.inverse(rows, last))
            else:
                most = self.mixture.index_bound(place, last)
                found.append(self.mixture.inverse(place, order.inverse(rows, most)))
        samples = np.unique(np.concatenate(found))
        return samples[samples < last]

    def steps_containing(self, first: int, end: int, steps: int) -> dict[int, list[int]]:
        """The steps below ``steps`` whose rows hold any of the tokens ``[first, end)``.

        Returns:
            For each of them, ascending, the positions of these rows in the batch.
        """
        found: dict[int, list[int]] = {}
        for sample in self.samples_containing(first, end, steps).tolist():
            step = step_for_batch(sample // self.plan.global_batch_size, self.plan.skip)
            if step is not None:
                found.setdefault(step, []).append(sample % self.plan.global_batch_size)
        return found

    @property
    def documents(self) -> int:
        """Documents in the streams; 0 where the order does not know of documents."""
        return sum(stream.documents for stream in self.row_sources)

    def to_stats(self) -> dict[str, Any]:
        """What a model's facts keep of the order: what ``sampler_for_model`` needs, and figures.

        Returns:
            As ``SamplingPlan.facts``; ``windows`` (rows of all streams), ``padding`` (share of the targets
            of an epoch that are none) and ``row_sources``, each with its ``source``, ``rows``,
            ``tokens`` and ``share`` of the samples.
        """
        shares = (
            [1.0]
            if self.mixture is None
            else [n / CYCLE_SAMPLES for n in self.mixture.cycle_counts]
        )
        rows = sum(stream.rows for stream in self.row_sources)
        padding = 0.0
        if self.plan.packing == BEST_FIT_MASKED:
            held = sum(stream.tokens for stream in self.row_sources)
            padding = round(1 - held / (rows * self.plan.context_length), 6)
        streams = [
            {
                "source": name or None,
                "rows": stream.rows,
                "tokens": stream.tokens,
                "fraction": share,
            }
            for name, stream, share in zip(self.source_names, self.row_sources, shares, strict=True)
        ]
        return {
            **self.plan.to_stats(),
            "rows_per_epoch": rows,
            "padding": padding,
            "row_sources": streams,
        }


def sampler_for_config(config: TrainConfig, seed: int, tokens: Dataset) -> Sampler:
    """The order of an entry of the recipe's `train` list. Raises as ``build_sampler``."""
    plan = SamplingPlan.from_config(config, seed)
    if plan.needs_no_documents:
        return concatenated_sampler(plan, tokens.stats["tokens"][TRAIN])
    return build_sampler(plan, TokenShards(tokens, TRAIN))


def build_sampler(plan: SamplingPlan, shards: TokenShards) -> Sampler:
    """The order of a run over these token shards; their indices are read, no tokens.

    Args:
        plan: what decides the order.
        shards: the training split.

    Raises:
        TooFewTokens: if a stream has not one row.
        UserError: if the mixture names a source that has no document in the training split.
    """
    starts, lengths = shards.document_starts[:-1], np.diff(shards.document_starts)
    if plan.mixture is None:
        if plan.packing != BEST_FIT_MASKED:
            return concatenated_sampler(plan, len(shards))
        stream = PackedRows(starts, lengths, plan.context_length)
        return Sampler(plan, [""], [stream], [_build_order(plan, stream, "", 1.0)], None)
    sources = shards.read_columns(["source"])["source"].to_numpy()
    share = cycle_counts(plan.mixture)
    streams: list[RowSource] = []
    for name in share:
        own = np.flatnonzero(sources == name)
        if not len(own):
            known = ", ".join(sorted({str(source) for source in sources}))
            raise UserError(
                f"train.data.mixture.{name}: no document of the training split is of this source; "
                f"there are {known}"
            )
        try:
            streams.append(_build_row_source(plan, starts[own], lengths[own]))
        except TooFewTokensError as error:
            raise TooFewTokensError(f"train.data.mixture.{name}: {error}") from None
    mixture = Mixture(plan.seed, tuple(share.values()))
    orders = [
        _build_order(plan, stream, name, share[name] / CYCLE_SAMPLES)
        for name, stream in zip(share, streams, strict=True)
    ]
    return Sampler(plan, list(share), streams, orders, mixture)


def concatenated_sampler(plan: SamplingPlan, tokens: int) -> Sampler:
    """The order over windows of so many tokens, one after the other. Raises ``TooFewTokens``."""
    stream = ConcatenatedRows(np.zeros(1, np.int64), np.array([tokens]), plan.context_length)
    return Sampler(plan, [""], [stream], [_build_order(plan, stream, "", 1.0)], None)


def sampler_for_model(model: Dataset) -> Sampler:
    """The order in which a committed model saw its data.

    Args:
        model: a data set of the ``train`` stage; its token shards are looked at, where the order
            depends on the documents, in the store it lies in.

    Raises:
        DatasetNotFoundError: if those are gone.
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
    """The token shards that a committed model was trained on. Raises ``DatasetNotFoundError``."""
    # The last two names of a data set's URL are its own, wherever the store lies.
    root = Storage(model.storage.url.rstrip("/").rsplit("/", 2)[0], model.storage.options)
    made = next(item for item in model.manifest.inputs if item["stage"] == "tokenize")
    return open_dataset(root.subdir(*input_path(made).split("/")))


def steps_containing(model: Dataset, first: int, end: int) -> list[int]:
    """The steps (0-based) whose batches held any of the tokens ``[first, end)``.

    Args:
        model: a data set of the ``train`` stage.
        first: index of a token in the training split, over all its shards.
        end: one past the last.

    Raises:
        DatasetNotFoundError: if the order depends on the documents and the token shards are gone.
    """
    return list(sampler_for_model(model).steps_containing(first, end, int(model.stats["steps"])))


def _build_row_source(plan: SamplingPlan, starts: Indices, lengths: Indices) -> RowSource:
    if plan.packing == BEST_FIT_MASKED:
        return PackedRows(starts, lengths, plan.context_length)
    return ConcatenatedRows(*_merge_adjacent(starts, lengths), plan.context_length, len(starts))


def _merge_adjacent(starts: Indices, lengths: Indices) -> tuple[Indices, Indices]:
    """Documents that follow each other as one run."""
    breaks = np.flatnonzero(starts[1:] != (starts + lengths)[:-1]) + 1
    firsts = np.concatenate([[0], breaks]).astype(np.int64)
    return starts[firsts], np.add.reduceat(lengths, firsts)


def _build_order(
    plan: SamplingPlan, row_source: RowSource, name: str, fraction: float
) -> ShuffleOrder:
    """The order of a stream; its part of what is shuffled at a time follows its share."""
    most = max(1, int(plan.shuffle_window_tokens * fraction))
    if row_source.rows * plan.context_length <= most:
        return ShuffleOrder(plan.seed, row_source.rows, name)
    block = max(1, min(BLOCK_TOKENS, most // MIN_WINDOW_BLOCKS) // plan.context_length)
    return ShuffleOrder(
        plan.seed, row_source.rows, name, block, max(1, most // (block * plan.context_length))
    )
