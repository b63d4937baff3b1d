from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.dataset.dataset import Dataset
from infra.errors import UserError
from infra.formats.megatron import TRAIN, TokenShards
from lm.config.data import CYCLE_SAMPLES, cycle_counts
from lm.data.row_layout import ConcatenatedRows, PackedRows, TokenSpans
from lm.data.sampler import (
    Sampler,
    SamplingPlan,
    build_sampler,
    concatenated_sampler,
    sampler_for_config,
)
from lm.data.shuffle import Indices, TooFewTokensError
from tests.lm.corpora import tiny, token_shards

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=40)
MIXED = {"books": 1.0, "site": 3.0}
PLANS = [
    SamplingPlan(1337, 4, 16),
    SamplingPlan(1337, 4, 16, "concatenate_masked", skip=((2, 4), (9, 30))),
    SamplingPlan(1337, 4, 16, "best_fit_masked"),
    SamplingPlan(1337, 4, 16, "concatenate", MIXED),
    SamplingPlan(1337, 4, 16, "best_fit_masked", MIXED, 500, ((0, 1), (7, 9))),
    SamplingPlan(1337, 4, 16, "concatenate", None, 700, ((3, 5),)),
    SamplingPlan(1337, 4, 16, skip=((3, 5),), carry_state=True),
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> TokenShards:
    return TokenShards(made(tmp_path_factory), TRAIN)


def made(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return token_shards(tmp_path_factory.mktemp("store"))


def held(pieces: TokenSpans) -> list[tuple[int, int, int, int]]:
    """Pieces as a set of rows would show them."""
    columns = (pieces.rows, pieces.columns, pieces.starts, pieces.lengths)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def ranges(lengths: list[int]) -> tuple[Indices, Indices]:
    """Documents with a gap of three tokens before each: another source's."""
    sizes = np.array(lengths)
    return np.cumsum(sizes + 3) - sizes, sizes


@given(LENGTHS, st.integers(1, 30))
def test_windows_are_the_stream_cut_at_every_context(lengths: list[int], context: int) -> None:
    starts, sizes = ranges(lengths)
    flat = np.concatenate([np.arange(s, s + n) for s, n in zip(starts, sizes, strict=True)])
    if len(flat) <= context:
        with pytest.raises(TooFewTokensError):
            ConcatenatedRows(starts, sizes, context)
        return
    stream = ConcatenatedRows(starts, sizes, context)
    assert stream.rows == (len(flat) - 1) // context
    rows = np.full((stream.rows, context + 1), -1)
    for row, column, start, length in held(stream.token_spans(np.arange(stream.rows))):
        rows[row, column : column + length] = np.arange(start, start + length)
    expected = [flat[w * context : w * context + context + 1].tolist() for w in range(stream.rows)]
    assert rows.tolist() == expected
    for first in range(0, int(flat[-1]) + 2, 7):
        touched = [w for w in range(stream.rows) if set(expected[w]) & {*range(first, first + 5)}]
        assert stream.rows_containing(first, first + 5).tolist() == touched


@given(LENGTHS, st.integers(1, 30))
def test_packed_rows_predict_every_token_once(lengths: list[int], context: int) -> None:
    starts, sizes = ranges(lengths)
    stream = PackedRows(starts, sizes, context)
    pieces = stream.token_spans(np.arange(stream.rows))
    predicted: Counter[int] = Counter()
    seen_tokens: dict[int, set[int]] = {row: set() for row in range(stream.rows)}
    for (row, column, start, length), target in zip(
        held(pieces), pieces.target_starts.tolist(), strict=True
    ):
        predicted.update(range(target, start + length))
        seen_tokens[row] |= set(range(start, start + length))
        assert column + length <= context + 1
        if column == 0:  # continues the document of the previous token
            assert start + 1 not in starts
    every = [t for s, n in zip(starts, sizes, strict=True) for t in range(s, s + n)]
    assert predicted == Counter(every)
    for first in range(0, every[-1] + 2, 7):
        touched = [
            row for row, tokens in seen_tokens.items() if tokens & {*range(first, first + 5)}
        ]
        assert stream.rows_containing(first, first + 5).tolist() == touched


@pytest.mark.parametrize("plan", PLANS)
def test_a_token_range_leads_to_the_steps_that_hold_it(
    shards: TokenShards, plan: SamplingPlan
) -> None:
    order, steps = build_sampler(plan, shards), 60
    batches = [order.token_spans(order.samples(step)) for step in range(steps)]
    for first, end in [(0, 1), (100, 130), (len(shards) - 40, len(shards)), (77, 77)]:
        expected = {}
        for step, pieces in enumerate(batches):
            hit = (pieces.starts < end) & (pieces.starts + pieces.lengths > first)
            if hit.any() and first < end:
                expected[step] = sorted(set(pieces.rows[hit].tolist()))
        assert order.steps_containing(first, end, steps) == expected


@pytest.mark.parametrize("plan", PLANS)
def test_an_epoch_takes_every_row_of_every_stream_once(
    shards: TokenShards, plan: SamplingPlan
) -> None:
    order = build_sampler(replace(plan, skip=()), shards)
    streams, rows = order.rows(
        np.arange(9 * CYCLE_SAMPLES)
    )  # in whole cycles, streams are in order
    for number, stream in enumerate(order.row_sources):
        taken = Counter(rows[streams == number].tolist())
        assert set(taken) == set(range(stream.rows))
        assert max(taken.values()) - min(taken.values()) <= 1
        if order.mixture is None and not plan.carry_state:
            assert Counter(rows[: stream.rows].tolist()) == Counter(range(stream.rows))


def test_a_mixture_is_held_and_leaves_other_sources_out(shards: TokenShards) -> None:
    order = build_sampler(SamplingPlan(1, 8, 16, "concatenate", MIXED), shards)
    source = shards.read_columns(["source"])["source"].to_numpy()
    rows_by_source: Counter[str] = Counter()
    for step in range(128):  # a cycle
        pieces = order.token_spans(order.samples(step))
        documents = np.searchsorted(shards.document_starts, pieces.starts, side="right") - 1
        streams, _ = order.rows(order.samples(step))
        assert [order.source_names[n] for n in streams[pieces.rows]] == source[documents].tolist()
        rows_by_source.update(order.source_names[n] for n in streams)
    assert rows_by_source == cycle_counts(MIXED)
    alone = build_sampler(SamplingPlan(1, 8, 16, "concatenate", {"books": 1.0}), shards)
    assert alone.documents == (source == "books").sum()


def test_a_source_without_documents_is_refused_by_name(shards: TokenShards) -> None:
    with pytest.raises(UserError, match=r"train.data.mixture.web: .* books, site"):
        build_sampler(SamplingPlan(1, 8, 16, "concatenate_masked", {"web": 1, "site": 1}), shards)
    with pytest.raises(
        TooFewTokensError, match=r"train.data.mixture.books: the training split has"
    ):
        build_sampler(SamplingPlan(1, 8, len(shards) // 2, "mask", MIXED), shards)


@pytest.mark.parametrize("plan", PLANS)
def test_facts_are_all_that_the_way_back_needs(shards: TokenShards, plan: SamplingPlan) -> None:
    facts = build_sampler(plan, shards).to_stats()
    again = SamplingPlan.from_stats(facts)
    assert again.to_stats() == plan.to_stats()
    if plan.needs_no_documents:  # nothing but the number of windows is known of the tokens
        order = concatenated_sampler(again, facts["rows_per_epoch"] * again.context_length + 1)
        whole = build_sampler(plan, shards)
        for step in range(0, 60, 7):
            both = (held(one.token_spans(one.samples(step))) for one in (order, whole))
            assert next(both) == next(both)


def test_facts_of_an_earlier_version_are_the_first_order() -> None:
    facts = {"seed": 5, "global_batch_size": 8, "context_length": 16, "rows_per_epoch": 99}
    assert SamplingPlan.from_stats(facts) == SamplingPlan(5, 8, 16)


def test_figures_of_the_order(tmp_path_factory: pytest.TempPathFactory) -> None:
    tokens = made(tmp_path_factory)
    facts = sampler_for_config(tiny(packing="best_fit_masked", mixture=MIXED), 1, tokens).to_stats()
    assert [stream["source"] for stream in facts["row_sources"]] == ["books", "site"]
    assert [stream["fraction"] for stream in facts["row_sources"]] == [0.25, 0.75]
    assert sum(stream["tokens"] for stream in facts["row_sources"]) == tokens.stats["tokens"][TRAIN]
    assert facts["rows_per_epoch"] * 16 * (1 - facts["padding"]) == pytest.approx(
        tokens.stats["tokens"][TRAIN], abs=1
    )
    assert sampler_for_config(tiny(), 1, tokens).to_stats()["padding"] == 0


def distinct(order: Sampler, steps: int) -> int:
    return len(set(islice((tuple(order.samples(step)) for step in range(steps)), steps)))


def test_every_step_has_samples_of_its_own(shards: TokenShards) -> None:
    order = build_sampler(PLANS[1], shards)
    assert distinct(order, 50) == 50
    assert order.samples(1).tolist() == [4, 5, 6, 7]
    assert order.samples(2).tolist() == [16, 17, 18, 19]
