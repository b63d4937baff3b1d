"""Candidates: every pair of a bucket up to a bound, a counted choice beyond it."""

import itertools
import random
import tracemalloc
from pathlib import Path

import datasketch
import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from infra.minhash.b_bit import (
    COLLISION_PROBABILITY,
    as_words,
    estimate_jaccard,
    matching_values,
    pack,
)
from infra.minhash.bands import band_keys
from infra.store.storage import Storage
from tasks.dedup.candidates.lsh import (
    SORTED_WIDTH,
    all_pairs,
    b_bit_words,
    bounded_pairs,
    nearest_pairs,
    oversized_bucket_pairs,
    oversized_row_bytes,
)
from tasks.dedup.candidates.lsh_params import (
    candidate_probability,
    choose_banding,
    false_positive_area,
    s_curve,
)
from tasks.dedup.config import DedupConfig
from tasks.dedup.shuffle_plan import DedupPlan, duplicate_indices, find_equal_runs

SIZES = st.lists(st.integers(1, 9), max_size=6)


def test_keys_are_seeded_digests_of_the_bands_values() -> None:
    signatures = np.random.default_rng(1).integers(0, 2**32, (3, 12), dtype=np.uint32)
    keys = band_keys(signatures, 3)
    for row, band in itertools.product(range(3), range(3)):
        data = signatures[row, 4 * band : 4 * band + 4].astype("<u4").tobytes()
        assert keys[row, band] == xxhash.xxh64_intdigest(data, band)


@given(st.lists(st.integers(0, 9), max_size=30))
def test_repeated_values_are_found_in_runs(values: list[int]) -> None:
    keys = np.array(values, np.uint64)
    result = duplicate_indices(keys)
    assert sorted(result.tolist()) == [i for i, v in enumerate(values) if values.count(v) > 1]
    first, sizes = find_equal_runs(keys[result])
    assert [(int(keys[result][f]), int(s)) for f, s in zip(first, sizes, strict=True)] == [
        (v, values.count(v)) for v in sorted(set(values)) if values.count(v) > 1
    ]


@given(SIZES)
def test_all_pairs_of_each_run(sizes: list[int]) -> None:
    first = np.cumsum([0, *sizes])[:-1]
    members = np.arange(sum(sizes), dtype=np.uint64) * np.uint64(3)
    result = all_pairs(members, first.astype(np.int64), np.array(sizes, np.int64))
    expected = [
        pair
        for start, size in zip(first.tolist(), sizes, strict=True)
        for pair in itertools.combinations(members[start : start + size].tolist(), 2)
    ]
    assert [tuple(pair) for pair in result.tolist()] == expected


@given(SIZES, st.integers(0, 3), st.integers(0, 10))
def test_a_bounded_run_pairs_references_and_neighbors(
    sizes: list[int], hubs: int, near: int
) -> None:
    first = np.cumsum([0, *sizes])[:-1].astype(np.int64)
    counts = np.array(sizes, np.int64)
    members = np.arange(sum(sizes), dtype=np.uint64)
    result = [tuple(pair) for pair in bounded_pairs(members, first, counts, hubs, near).tolist()]
    expected = [
        (start + i, start + j)
        for start, size in zip(first.tolist(), sizes, strict=True)
        for i, j in itertools.combinations(range(size), 2)
        if i < hubs or j - i <= near
    ]
    assert sorted(result) == sorted(expected)


@given(SIZES, st.integers(0, 5), st.integers(1, 6), st.integers(0, 2**32))
def test_a_member_is_paired_with_the_first_and_the_most_similar(
    sizes: list[int], near: int, window: int, seed: int
) -> None:
    n = sum(sizes)
    packed = np.random.default_rng(seed).integers(0, 4, (n, 1), dtype=np.uint64)
    first = np.cumsum([0, *sizes])[:-1].astype(np.int64)
    result = nearest_pairs(packed, first, np.array(sizes, np.int64), near, window)
    expected = set()
    for start, size in zip(first.tolist(), sizes, strict=True):
        for i in range(size):
            low = i // window * window
            others = [j for j in range(low, min(low + window, size)) if j != i]
            others.sort(key=lambda j: (-matching_values(packed[start + i], packed[start + j]), j))
            expected |= {(start + i, start + j) for j in others[:near]}
            expected |= {(start, start + i)} if i else set()
    assert {tuple(pair) for pair in result.tolist() if pair[0] >= 0} == expected


@pytest.mark.parametrize(("near", "bands"), [(1, 14), (8, 14), (8, 120), (100, 14)])
def test_an_oversized_bucket_uses_the_memory_that_is_planned_for_it(
    near: int, bands: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DedupConfig.model_validate({"neighbors": near, "bands": bands})
    plan = DedupPlan(Storage(str(tmp_path)), (0,), 10**6, config, 0, 0, 1)
    monkeypatch.setattr("tasks.dedup.candidates.lsh.WINDOW", 128)
    n, words = 4_000, SORTED_WIDTH + b_bit_words(plan)
    rows = np.random.default_rng(1).integers(0, 2**63, (n, words), np.uint64)
    rows[:, :2], rows[:, 8] = 0, np.arange(n)
    plan.shuffle("oversized_members", 1, words).write_rows(0, np.zeros(n, np.int64), rows)
    oversized_bucket_pairs(plan, 0)  # compiled by now
    tracemalloc.start()
    result = oversized_bucket_pairs(plan, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result["candidates"] > n * near / 2
    assert 0.6 * oversized_row_bytes(plan) < peak / n < oversized_row_bytes(plan)


def test_candidates_follow_the_s_curve() -> None:
    rng = random.Random(5)
    hits = 0
    for trial in range(200):
        words = [f"{trial} {i}".encode() for i in range(300)]
        other = words[:260] + [b"x" + word for word in words[260:]]  # Jaccard 260 / 340
        rng.shuffle(other)
        pair = []
        for members in (words, other):
            sketch = datasketch.MinHash(num_perm=112, seed=trial, scheme="affine32")
            sketch.update_batch(members)
            pair.append(sketch.hashvalues)
        keys = band_keys(np.array(pair), 14)
        hits += bool((keys[0] == keys[1]).any())
    assert abs(hits / 200 - candidate_probability(260 / 340, 14, 8)) < 0.09
    assert candidate_probability(0.8, 14, 8) == pytest.approx(0.92, abs=0.005)
    assert s_curve(14, 8)["0.8"] == pytest.approx(candidate_probability(0.8, 14, 8), abs=1e-4)


@pytest.mark.parametrize(("threshold", "recall"), [(0.8, 0.92), (0.7, 0.95), (0.9, 0.5)])
def test_the_chosen_bands_reach_the_recall_with_the_fewest_false_positives(
    threshold: float, recall: float
) -> None:
    bands, rows = choose_banding(threshold, recall, 128)
    assert bands * rows <= 128
    assert candidate_probability(threshold, bands, rows) >= recall
    for b, r in itertools.product(range(1, 129), range(1, 129)):
        if b * r <= 128 and candidate_probability(threshold, b, r) >= recall:
            assert false_positive_area(threshold, b, r) >= false_positive_area(
                threshold, bands, rows
            )


def test_an_unreachable_recall_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 2 permutations"):
        choose_banding(0.5, 0.99, 2)
    with pytest.raises(ValueError, match="1024 permutations and 256 bands"):
        choose_banding(0.01, 0.95, 1024)


def test_no_more_bands_are_chosen_than_a_pair_can_store() -> None:
    assert choose_banding(0.22, 0.95, 1024) == (61, 2)  # 280 x 3 would waste less
    assert candidate_probability(0.22, 280, 3) > 0.95


@given(st.integers(1, 40), st.integers(0, 2**32))
def test_packed_values_are_compared_as_the_low_bits_are(values: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.integers(0, 2**32, (2, values), dtype=np.uint32)
    other = np.where(rng.random(values) < 0.5, one, other)
    packed = pack(np.stack([one, other]))
    same = int(((one & 15) == (other & 15)).sum())
    assert packed.shape == (2, (values + 1) // 2)
    one, other = as_words(packed)
    assert matching_values(one, other) == same + 16 * len(one) - values
    expected = max(0.0, (same / values - COLLISION_PROBABILITY) / (1 - COLLISION_PROBABILITY))
    assert estimate_jaccard(one, other, values) == pytest.approx(expected)


def test_an_estimate_is_near_the_similarity() -> None:
    result = []
    for trial in range(60):
        pair = []
        for shift in (0, 40):
            sketch = datasketch.MinHash(num_perm=112, seed=trial, scheme="affine32")
            sketch.update_batch([str(i).encode() for i in range(shift, shift + 400)])
            pair.append(sketch.hashvalues)
        one, other = as_words(pack(np.array(pair)))
        result.append(estimate_jaccard(one, other, 112))
    assert np.mean(result) == pytest.approx(360 / 440, abs=0.015)
    assert np.std(result) < 0.06
