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
def test_each_split_gets_a_document_if_two_draws_differ(
    draws: np.ndarray[tuple[int], np.dtype[np.float64]], fraction: float
) -> None:
    splits = assign_splits(draws, holdout_threshold(draws, fraction))
    if len(set(draws.tolist())) > 1:
        assert set(splits) == {"train", "validation"}
    else:
        assert set(splits) <= {"train"}
    held = {draw for draw, split in zip(draws, splits, strict=True) if split == "validation"}
    expected = {draw for draw in draws if draw < fraction}
    assert len(held ^ expected) <= 1  # moved as little as needed


def test_nothing_is_held_out_on_request() -> None:
    assert holdout_threshold(np.array([0.0, 0.5]), 0.0) == 0.0
    assert assign_splits(np.array([0.0, 0.5]), 0.0) == ["train", "train"]


def test_the_held_out_fraction_is_met() -> None:
    draws = draw_documents(table(variations(4_000)), 1337)["split_draw"].to_numpy()
    assert assign_splits(draws, holdout_threshold(draws, 0.05)).count(
        "validation"
    ) == pytest.approx(200, abs=45)


def test_a_draw_depends_only_on_the_text_and_the_seed() -> None:
    texts = variations(30)
    draws = draw_documents(table(texts), 1)
    backwards = draw_documents(table(texts[::-1]), 1)
    for name in ("split_draw", "sample_draw"):
        assert draws[name].to_pylist() == backwards[name].to_pylist()[::-1]
        assert draws[name].to_pylist() != draw_documents(table(texts), 2)[name].to_pylist()
    assert draws["split_draw"].to_pylist() != draws["sample_draw"].to_pylist()


def test_equal_texts_fall_into_the_same_split() -> None:
    texts = ["same", "same", "one", "other", None]
    draws = draw_documents(table(texts, clusters=[None, None, "c", "c", None]), 1)[
        "split_draw"
    ].to_pylist()
    assert draws[0] == draws[1]
    assert draws[2:4] == draw_documents(table(["one", "other"]), 1)["split_draw"].to_pylist()
    assert len(set(draws)) == 4


def sample_bytes(
    texts: list[str], threshold: float, max_bytes: int | None
) -> npt.NDArray[np.int64]:
    drawn = draw_documents(table(texts), 7)
    split, draws, sizes = (
        drawn[name].to_numpy() for name in ("split_draw", "sample_draw", "bytes")
    )
    return training_bytes(split, draws, sizes, threshold, max_bytes)


def test_the_sample_is_training_text_of_at_most_max_bytes() -> None:
    texts = variations(200)
    drawn = draw_documents(table(texts), 7)
    sizes, draws = drawn["bytes"].to_numpy(), drawn["split_draw"].to_numpy()
    threshold = 0.3
    used = sample_bytes(texts, threshold, 5_000)
    assert used.sum() == 5_000
    assert (draws[used > 0] >= threshold).all()
    assert ((used > 0) & (used < sizes)).sum() <= 1
    for max_bytes in (10**9, None):
        assert (
            sample_bytes(texts, threshold, max_bytes).tolist()
            == np.where(draws >= threshold, sizes, 0).tolist()
        )
    sample_draws = drawn["sample_draw"].to_numpy()
    assert sample_draws[used > 0].max() < sample_draws[(used == 0) & (draws >= threshold)].min()


def test_a_larger_corpus_changes_the_sample_as_little_as_possible() -> None:
    before, after = (
        sample_bytes(variations(200), 0.05, 3_000),
        sample_bytes(variations(203), 0.05, 3_000),
    )
    assert (before != after[:200]).sum() + (after[200:] > 0).sum() <= 4
