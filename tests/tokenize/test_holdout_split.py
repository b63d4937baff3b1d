import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.tokenize.holdout_split import (
    assign_splits,
    draw_documents,
    holdout_threshold,
    training_bytes,
)
from tests.tokenize.corpora import table, variations

DRAWS = st.lists(st.floats(0, 1, exclude_max=True), max_size=30).map(np.array)


@given(DRAWS, st.floats(0.001, 0.999))
def test_each_split_gets_a_document_where_two_differ(
    draws: np.ndarray[tuple[int], np.dtype[np.float64]], share: float
) -> None:
    sides = assign_splits(draws, holdout_threshold(draws, share))
    if len(set(draws.tolist())) > 1:
        assert set(sides) == {"train", "validation"}
    else:
        assert set(sides) <= {"train"}
    held = {draw for draw, side in zip(draws, sides, strict=True) if side == "validation"}
    expected = {draw for draw in draws if draw < share}
    assert len(held ^ expected) <= 1  # moved as little as needed


def test_nothing_is_held_out_on_request() -> None:
    assert holdout_threshold(np.array([0.0, 0.5]), 0.0) == 0.0
    assert assign_splits(np.array([0.0, 0.5]), 0.0) == ["train", "train"]


def test_the_share_is_met() -> None:
    draws = draw_documents(table(variations(4_000)), 1337)["split_draw"].to_numpy()
    assert assign_splits(draws, holdout_threshold(draws, 0.05)).count(
        "validation"
    ) == pytest.approx(200, abs=45)


def test_a_draw_depends_on_the_text_and_the_seed_alone() -> None:
    texts = variations(30)
    draws = draw_documents(table(texts), 1)
    backwards = draw_documents(table(texts[::-1]), 1)
    for name in ("split_draw", "sample_draw"):
        assert draws[name].to_pylist() == backwards[name].to_pylist()[::-1]
        assert draws[name].to_pylist() != draw_documents(table(texts), 2)[name].to_pylist()
    assert draws["split_draw"].to_pylist() != draws["sample_draw"].to_pylist()


def test_equal_texts_fall_on_one_side_whatever_else_is_there() -> None:
    texts = ["same", "same", "one", "other", None]
    draws = draw_documents(table(texts, clusters=[None, None, "c", "c", None]), 1)[
        "split_draw"
    ].to_pylist()
    assert draws[0] == draws[1]
    assert draws[2:4] == draw_documents(table(["one", "other"]), 1)["split_draw"].to_pylist()
    assert len(set(draws)) == 4


def used(texts: list[str], limit: float, budget: int | None) -> npt.NDArray[np.int64]:
    drawn = draw_documents(table(texts), 7)
    split, draws, sizes = (
        drawn[name].to_numpy() for name in ("split_draw", "sample_draw", "bytes")
    )
    return training_bytes(split, draws, sizes, limit, budget)


def test_the_sample_is_training_text_within_the_budget() -> None:
    texts = variations(200)
    drawn = draw_documents(table(texts), 7)
    sizes, draws = drawn["bytes"].to_numpy(), drawn["split_draw"].to_numpy()
    limit = 0.3
    some = used(texts, limit, 5_000)
    assert some.sum() == 5_000
    assert (draws[some > 0] >= limit).all()
    assert ((some > 0) & (some < sizes)).sum() <= 1
    for budget in (10**9, None):
        assert used(texts, limit, budget).tolist() == np.where(draws >= limit, sizes, 0).tolist()
    least = drawn["sample_draw"].to_numpy()
    assert least[some > 0].max() < least[(some == 0) & (draws >= limit)].min()


def test_a_larger_corpus_keeps_the_sample_as_far_as_it_can() -> None:
    before, after = used(variations(200), 0.05, 3_000), used(variations(203), 0.05, 3_000)
    assert (before != after[:200]).sum() + (after[200:] > 0).sum() <= 4
