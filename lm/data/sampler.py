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

from infra.dataset.dataset import Dataset, open_dataset, input_path
from infra.errors import UserError
from infra.store.storage import Storage
from infra.formats.megatron import TRAIN, TokenShards
from lm.config.train import TrainConfig
from lm.data.mixture import CYCLE, Mixture, counts
from lm.data.shuffle import Indices, Order, TooFewTokens, batch_of, step_of
from lm.data.row_layout import Packs, Pieces, Stream, Windows

BLOCK_TOKENS = 1 << 22  # of a block of a pool: several of the blocks that a store is read in
LEAST_BLOCKS = 64  # of a pool, so that a small pool is mixed as well
SHUFFLE_TOKENS = 268_435_456
BEST_FIT = "best_fit"


@dataclass(frozen=True)
class Plan:
    """What decides the order of a run's data, besides the tokens.

    Attributes:
        seed: the recipe's.
        batch: rows per step, over all processes.
        context: targets of a row.
        packing: ``concatenate``, ``mask`` or ``best_fit``.
        mixture: weight of each source that is trained on; ``None``: every document.
        shuffle_tokens: about so many tokens are shuffled at a time.
        skip: half-open ranges of batches that are left out.
    """

    seed: int
    batch: int
    context: int
    packing: str = "concatenate"
    mixture: Mapping[str, float] | None = None
    shuffle_tokens: int = SHUFFLE_TOKENS
    skip: Sequence[Sequence[int]] = ()

    @staticmethod
    def of(config: TrainConfig, seed: int, skip: Sequence[Sequence[int]] = ()) -> "Plan":
        """The plan of an entry of the recipe's `train` list."""
        return Plan(
            seed,
            config.sequences,
            config.context,
            config.packing,
            config.mixture,
            config.shuffle_tokens,
            skip,
        )

    @staticmethod
    def read(facts: Mapping[str, Any]) -> "Plan":
        """The plan that a model's facts keep (``facts``)."""
        own = {name: facts[name] for name in ("seed", "batch", "context")}
        return Plan(**own, **facts.get("order", {}), skip=facts.get("skip", ()))

    def facts(self) -> dict[str, Any]:
        """What ``read`` needs of a model's facts, as JSON."""
        order = {
            "packing": self.packing,
            "mixture": None if self.mixture is None else dict(self.mixture),
            "shuffle_tokens": self.shuffle_tokens,
        }
        own = {"seed": self.seed, "batch": self.batch, "context": self.context}
        return {**own, "order": order, "skip": [list(one) for one in self.skip]}

    @property
    def alone(self) -> bool:
        """Whether the order follows from the number of tokens alone, whatever documents there are."""
        return self.mixture is None and self.packing != BEST_FIT


@dataclass(frozen=True)
class Sampler:
    """The order of one run.

    Attributes:
        plan: what decides it.
        names: of the streams; one empty name without a mixture.
        streams: what there is to learn from.
        orders: of each stream.
        mixture: of the streams; ``None`` if there is one.
    """

    plan: Plan
    names: Sequence[str]
    streams: Sequence[Stream]
    orders: Sequence[Order]
    mixture: Mixture | None

    def samples(self, step: int) -> Indices:
        """The samples of a 0-based step: int64[batch], by position."""
        first = batch_of(step, self.plan.skip) * self.plan.batch
        return np.arange(first, first + self.plan.batch, dtype=np.int64)

    def rows(self, samples: Indices) -> tuple[Indices, Indices]:
        """The stream of each sample, by place in ``streams``, and its row there."""
        if self.mixture is None:
            return np.zeros(len(samples), np.int64), self.orders[0].at(samples)
        streams, numbers = self.mixture.at(samples)
        rows = np.empty(len(samples), np.int64)
        for stream in np.unique(streams).tolist():
            mine = streams == stream
            rows[mine] = self.orders[stream].at(numbers[mine])
        return streams, rows

    def pieces(self, samples: Indices) -> Pieces:
        """The tokens of some samples; ``Pieces.rows`` counts in ``samples``."""
        streams, rows = self.rows(samples)
        parts = []
        for stream in np.unique(streams).tolist():
            mine = np.flatnonzero(streams == stream)
            own = self.streams[stream].pieces(rows[mine])
            parts.append(Pieces(mine[own.rows], own.columns, own.starts, own.lengths))
        return Pieces.joined(parts)

    def samples_of(self, first: int, end: int, steps: int) -> Indices:
        """The samples below a step that hold any of the tokens ``[first, end)``, ascending.

        Samples of skipped batches are among them: ``steps_of`` leaves them out.
        """
        last = (batch_of(steps - 1, self.plan.skip) + 1) * self.plan.batch if steps else 0
        found = [np.zeros(0, np.int64)]
        for place, (stream, order) in enumerate(zip(self.streams, self.orders, strict=True)):
            rows = stream.rows_of(first, end) if first < end else found[0]
            if not len(rows):
                continue
            if self.mixture is None:
                found.append(order.numbers_of(rows, last))
            else:
                most = self.mixture.numbers_below(place, last)
                found.append(self.mixture.samples_of(place, order.numbers_of(rows, most)))
        samples = np.unique(np.concatenate(found))
        return samples[samples < last]

    def steps_of(self, first: int, end: int, steps: int) -> dict[int, list[int]]:
        """The steps below ``steps`` whose rows hold any of the tokens ``[first, end)``.

        Returns:
            For each of them, ascending, the positions of these rows in the batch.
        """
        found: dict[int, list[int]] = {}
        for sample in self.samples_of(first, end, steps).tolist():
            step = step_of(sample // self.plan.batch, self.plan.skip)
            if step is not None:
                found.setdefault(step, []).append(sample % self.plan.batch)
        return found

    @property
    def documents(self) -> int:
        """Documents in the streams; 0 where the order does not know of documents."""
        return sum(stream.documents for stream in self.streams)

    def facts(self) -> dict[str, Any]:
        """What a model's facts keep of the order: what ``sampler_of`` needs, and figures.

        Returns:
            As ``Plan.facts``; ``windows`` (rows of all streams), ``padding`` (share of the targets
            of an epoch that are none) and ``streams``, each with its ``source``, ``rows``,
            ``tokens`` and ``share`` of the samples.
        """
        shares = [1.0] if self.mixture is None else [n / CYCLE for n in self.mixture.counts]
        rows = sum(stream.rows for stream in self.streams)
        padding = 0.0
        if self.plan.packing == BEST_FIT:
            held = sum(stream.tokens for stream in self.streams)
            padding = round(1 - held / (rows * self.plan.context), 6)
        streams = [
            {"source": name or None, "rows": stream.rows, "tokens": stream.tokens, "share": share}
            for name, stream, share in zip(self.names, self.streams, shares, strict=True)
        ]
        return {**self.plan.facts(), "windows": rows, "padding": padding, "streams": streams}


def order_of(config: TrainConfig, seed: int, tokens: Dataset) -> Sampler:
    """The order of an entry of the recipe's `train` list. Raises as ``sampler``."""
    plan = Plan.of(config, seed)
    if plan.alone:
        return plain(plan, tokens.facts["tokens"][TRAIN])
    return sampler(plan, TokenShards(tokens, TRAIN))


def sampler(plan: Plan, shards: TokenShards) -> Sampler:
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
        if plan.packing != BEST_FIT:
            return plain(plan, len(shards))
        stream = Packs(starts, lengths, plan.context)
        return Sampler(plan, [""], [stream], [_order(plan, stream, "", 1.0)], None)
    sources = shards.columns(["source"])["source"].to_numpy()
    share = counts(plan.mixture)
    streams: list[Stream] = []
    for name in share:
        own = np.flatnonzero(sources == name)
        if not len(own):
            known = ", ".join(sorted({str(source) for source in sources}))
            raise UserError(
                f"train.mixture.{name}: no document of the training split is of this source; "
                f"there are {known}"
            )
        try:
            streams.append(_stream(plan, starts[own], lengths[own]))
        except TooFewTokens as error:
            raise TooFewTokens(f"train.mixture.{name}: {error}") from None
    mixture = Mixture(plan.seed, tuple(share.values()))
    orders = [
        _order(plan, stream, name, share[name] / CYCLE)
        for name, stream in zip(share, streams, strict=True)
    ]
    return Sampler(plan, list(share), streams, orders, mixture)


def plain(plan: Plan, tokens: int) -> Sampler:
    """The order over windows of so many tokens, one after the other. Raises ``TooFewTokens``."""
    stream = Windows(np.zeros(1, np.int64), np.array([tokens]), plan.context)
    return Sampler(plan, [""], [stream], [_order(plan, stream, "", 1.0)], None)


def sampler_of(model: Dataset) -> Sampler:
    """The order in which a committed model saw its data.

    Args:
        model: a data set of the ``train`` stage; its token shards are looked at, where the order
            depends on the documents, in the store it lies in.

    Raises:
        NotCommitted: if those are gone.
    """
    return _sampler_of(model.storage, model.fingerprint)


@lru_cache(maxsize=4)
def _sampler_of(storage: Storage, fingerprint: str) -> Sampler:  # noqa: ARG001 - part of the key
    model = open_dataset(storage)
    plan = Plan.read(model.facts)
    if plan.alone:
        return plain(plan, int(model.facts["windows"]) * plan.context + 1)
    return sampler(plan, TokenShards(tokens_of(model), TRAIN))


def tokens_of(model: Dataset) -> Dataset:
    """The token shards that a committed model was trained on. Raises ``NotCommitted``."""
    # The last two names of a data set's URL are its own, wherever the store lies.
    root = Storage(model.storage.url.rstrip("/").rsplit("/", 2)[0], model.storage.options)
    made = next(item for item in model.manifest.inputs if item["stage"] == "tokenize")
    return open_dataset(root.at(*input_path(made).split("/")))


def steps_that_saw(model: Dataset, first: int, end: int) -> list[int]:
    """The steps (0-based) whose batches held any of the tokens ``[first, end)``.

    Args:
        model: a data set of the ``train`` stage.
        first: index of a token in the training split, over all its shards.
        end: one past the last.

    Raises:
        NotCommitted: if the order depends on the documents and the token shards are gone.
    """
    return list(sampler_of(model).steps_of(first, end, int(model.facts["steps"])))


def _stream(plan: Plan, starts: Indices, lengths: Indices) -> Stream:
    if plan.packing == BEST_FIT:
        return Packs(starts, lengths, plan.context)
    return Windows(*_joined(starts, lengths), plan.context, len(starts))


def _joined(starts: Indices, lengths: Indices) -> tuple[Indices, Indices]:
    """Documents that follow each other as one run."""
    breaks = np.flatnonzero(starts[1:] != (starts + lengths)[:-1]) + 1
    firsts = np.concatenate([[0], breaks]).astype(np.int64)
    return starts[firsts], np.add.reduceat(lengths, firsts)


def _order(plan: Plan, stream: Stream, name: str, share: float) -> Order:
    """The order of a stream; its part of what is shuffled at a time follows its share."""
    most = max(1, int(plan.shuffle_tokens * share))
    if stream.rows * plan.context <= most:
        return Order(plan.seed, stream.rows, name)
    block = max(1, min(BLOCK_TOKENS, most // LEAST_BLOCKS) // plan.context)
    return Order(plan.seed, stream.rows, name, block, max(1, most // (block * plan.context)))
