import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.data.packing import pack, packing_groups

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=60)


def reference(lengths: list[int], capacity: int) -> list[list[tuple[int, int, int]]]:
    """Best-fit decreasing, the slow way: rows of (document, offset, length)."""
    pieces = [
        (document, at, min(capacity, length - at))
        for document, length in enumerate(lengths)
        for at in range(0, length, capacity)
    ]
    rows: list[list[tuple[int, int, int]]] = []
    for piece in sorted(pieces, key=lambda piece: -piece[2]):
        room = [capacity - sum(size for *_, size in row) for row in rows]
        fits = [place for place in range(len(rows)) if room[place] >= piece[2]]
        if fits:
            rows[min(fits, key=lambda place: room[place])].append(piece)
        else:
            rows.append([piece])
    return rows


@given(LENGTHS, st.integers(1, 40))
def test_every_token_has_one_place(lengths: list[int], capacity: int) -> None:
    packed = pack(np.array(lengths), capacity)
    places = set()
    for row in range(len(packed)):
        pieces = range(packed.bounds[row], packed.bounds[row + 1])
        column = 0
        for piece in pieces:
            assert packed.columns[piece] == column
            column += int(packed.lengths[piece])
            document, offset = int(packed.documents[piece]), int(packed.offsets[piece])
            whole = offset + packed.lengths[piece] == lengths[document]
            assert whole or len(pieces) == 1 == packed.lengths[piece] // capacity
            places |= {(document, offset + at) for at in range(packed.lengths[piece])}
        assert 0 < column <= capacity
    assert len(places) == sum(lengths) == packed.lengths.sum()


@given(LENGTHS, st.integers(1, 40))
def test_rows_are_as_full_as_best_fit_makes_them(lengths: list[int], capacity: int) -> None:
    packed = pack(np.array(lengths), capacity)
    sizes = [
        packed.lengths[packed.bounds[r] : packed.bounds[r + 1]].sum() for r in range(len(packed))
    ]
    expected = [sum(size for *_, size in row) for row in reference(lengths, capacity)]
    assert sorted(sizes) == sorted(expected)


def test_rows_are_the_same_for_ever() -> None:
    packed = pack(np.array([3, 9, 2, 5, 1, 4]), 6)
    rows = [
        [
            (int(packed.documents[at]), int(packed.offsets[at]))
            for at in range(packed.bounds[row], packed.bounds[row + 1])
        ]
        for row in range(len(packed))
    ]
    assert rows == [[(1, 0)], [(3, 0), (4, 0)], [(5, 0), (2, 0)], [(0, 0), (1, 6)]]


@given(LENGTHS, st.integers(1, 100))
def test_groups_follow_each_other_and_are_about_as_large_as_asked(
    lengths: list[int], most: int
) -> None:
    bounds = packing_groups(np.array(lengths), most)
    assert bounds[0] == 0
    assert bounds[-1] == len(lengths)
    sizes = np.add.reduceat(lengths, bounds[:-1])
    assert (np.diff(bounds) > 0).all()
    assert all(size < most + 60 for size in sizes)


@pytest.mark.parametrize("shape", ["short", "mixed"])
def test_a_natural_corpus_is_hardly_padded(shape: str) -> None:
    drawn = np.random.default_rng(3).lognormal(5 if shape == "short" else 6.5, 1, 20_000)
    lengths = np.maximum(2, drawn.astype(np.int64))
    packed = pack(lengths, 1024)
    assert 1 - lengths.sum() / (len(packed) * 1024) < 0.002
