"""Candidates: every pair of a bucket up to a bound, a counted choice beyond it."""

import itertools
import random

import datasketch
import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from tasks.dedup.bands import Nominations, band_keys, probability


def nominate(columns: list[list[int]], bucket: int = 64, neighbours: int = 8) -> Nominations:
    found = Nominations(len(columns[0]), bucket, neighbours)
    for column in columns:
        found.add(np.array(column, np.uint64))
    return found


def test_keys_are_seeded_digests_of_the_bands_values() -> None:
    signatures = np.random.default_rng(1).integers(0, 2**32, (3, 12), dtype=np.uint32)
    keys = band_keys(signatures, 3)
    for row, band in itertools.product(range(3), range(3)):
        data = signatures[row, 4 * band : 4 * band + 4].astype("<u4").tobytes()
        assert keys[row, band] == xxhash.xxh64_intdigest(data, band)


@given(
    st.integers(1, 9).flatmap(
        lambda n: st.lists(
            st.lists(st.integers(0, 4), min_size=n, max_size=n), min_size=1, max_size=4
        )
    )
)
def test_pairs_are_those_that_share_a_key(columns: list[list[int]]) -> None:
    expected = {
        pair
        for column in columns
        for pair in itertools.combinations(range(len(column)), 2)
        if column[pair[0]] == column[pair[1]]
    }
    found = nominate(columns).result()
    assert [tuple(pair) for pair in found.pairs.tolist()] == sorted(expected)
    assert found.skewed == found.left_out == 0


@pytest.mark.parametrize(("size", "neighbours"), [(5, 1), (10, 3), (10, 8), (10, 20), (200, 8)])
def test_a_skewed_bucket_is_bounded_and_counted(size: int, neighbours: int) -> None:
    found = nominate([[7] * size], bucket=4, neighbours=neighbours).result()
    expected = {
        (i, j) for i, j in itertools.combinations(range(size), 2) if i == 0 or j - i <= neighbours
    }
    assert {tuple(pair) for pair in found.pairs.tolist()} == expected
    assert (found.buckets, found.largest, found.skewed) == (1, size, 1)
    assert found.left_out == size * (size - 1) // 2 - len(expected)


def test_nothing_shared() -> None:
    found = nominate([[1, 2, 3]]).result()
    assert found.pairs.shape == (0, 2)
    assert Nominations(0, 64, 8).result().pairs.shape == (0, 2)


def test_nominations_follow_the_s_curve() -> None:
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
    assert abs(hits / 200 - probability(260 / 340, 14, 8)) < 0.09
    assert probability(0.8, 14, 8) == pytest.approx(0.92, abs=0.005)
