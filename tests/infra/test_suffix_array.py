"""The suffix array against a sort of all suffixes, and its search against looking everywhere."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from infra.suffix_array.build import build_suffix_array
from infra.suffix_array.search import SuffixArray

# Few different ids: repetitions are what is hard.
TEXTS = st.integers(0, 3).flatmap(
    lambda highest: st.lists(st.integers(0, highest), min_size=1, max_size=120)
)
QUERIES = st.lists(st.integers(0, 4), min_size=1, max_size=12)


def occurrences(text: list[int], query: list[int]) -> list[int]:
    return [at for at in range(len(text)) if text[at : at + len(query)] == query]


@given(TEXTS, st.sampled_from([np.uint16, np.int32]))
def test_suffixes_are_in_lexicographic_order(text: list[int], dtype: type) -> None:
    suffixes = build_suffix_array(np.array(text, dtype))
    assert suffixes.dtype == np.int32
    assert suffixes.tolist() == sorted(range(len(text)), key=lambda at: text[at:])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(2, 9))
def test_a_text_that_repeats_itself_is_sorted_too(block: list[int], times: int) -> None:
    text = block * times
    suffixes = build_suffix_array(np.array(text, np.uint16))
    assert suffixes.tolist() == sorted(range(len(text)), key=lambda at: text[at:])


def test_large_groups_are_sorted_and_the_highest_ids_fit() -> None:
    text = np.random.default_rng(3).choice(np.array([0, 1, 65_499]), 20_000).astype(np.uint16)
    suffixes = build_suffix_array(text).tolist()
    assert sorted(suffixes) == list(range(len(text)))
    values = text.tolist()
    for before, after in pairwise(suffixes):
        assert values[before : before + 60] <= values[after : after + 60]


def test_no_tokens_have_no_suffixes() -> None:
    empty = np.zeros(0, np.uint16)
    array = SuffixArray(empty, build_suffix_array(empty))
    assert array.longest_matches(np.array([1, 2], np.int64)).tolist() == [0, 0]
    assert array.find(np.array([1], np.int64))[0] == 0


@given(TEXTS, QUERIES)
def test_the_longest_match_of_each_position_is_found(text: list[int], query: list[int]) -> None:
    tokens = np.array(text, np.uint16)
    array = SuffixArray(tokens, build_suffix_array(tokens))
    expected = [
        max(
            n for n in range(len(query) - at + 1) if n == 0 or occurrences(text, query[at : at + n])
        )
        for at in range(len(query))
    ]
    assert array.longest_matches(np.array(query, np.int64)).tolist() == expected


@given(TEXTS, QUERIES, st.integers(0, 5))
def test_all_occurrences_of_a_query_are_found(
    text: list[int], query: list[int], limit: int
) -> None:
    tokens, ids = np.array(text, np.uint16), np.array(query, np.int64)
    array = SuffixArray(tokens, build_suffix_array(tokens))
    expected = occurrences(text, query)
    count, places = array.find(ids)
    assert (count, places.tolist()) == (len(expected), expected)
    count, some = array.find(ids, limit)
    assert count == len(expected)
    assert len(some) == min(limit, count)
    assert set(some.tolist()) <= set(expected)
