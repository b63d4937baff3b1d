"""GloVe: counts are exact, the kernel is the paper's, the meaning of a text is found."""

import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from infra.dataset.dataset import Dataset
from lm.models.embedding.corpus import NoWordsError
from lm.models.embedding.files import WordVectors
from lm.models.glove import train
from lm.models.glove.config import GloveEntry
from lm.models.glove.cooccurrence import ONE, cells_of_pairs, count_pairs, merge_pairs
from lm.models.glove.model import Cells, Table, train_cells
from lm.models.registry import parse_entry
from tests.lm import corpora, planted

WORDS = 6


def build(root: Path, tokens: Dataset, **sections: Any) -> Dataset:
    config = parse_entry({"name": "vectors", "family": "glove", **sections})
    assert isinstance(config, GloveEntry)
    ctx = corpora.context(root)
    return train.build(ctx, train.spec(ctx, config, tokens), config, tokens)


@given(
    st.lists(st.integers(-1, WORDS - 1), max_size=60),
    st.integers(1, 5),
    st.lists(st.integers(1, 59), max_size=3),
)
@settings(deadline=None, max_examples=50)
def test_counts_are_sums_of_inverse_distances_however_the_text_is_divided(
    words: list[int], window: int, cuts: list[int]
) -> None:
    expected: dict[tuple[int, int], Fraction] = {}
    for i, word in enumerate(words):
        for distance in range(1, min(window, i) + 1):
            other = words[i - distance]
            if other < 0 or word < 0:
                break
            for cell in ((word, other), (other, word)):  # as cooccur.c: twice for equal words
                expected[cell] = expected.get(cell, Fraction(0)) + Fraction(1, distance)
    stream = np.array(words, np.int32)
    bounds = [0, *sorted(cut for cut in set(cuts) if cut < len(words)), len(words)]
    pieces = []
    for start, stop in pairwise(bounds):
        before = min(window, start)
        pieces.append(count_pairs(stream[start - before : stop], before, window, WORDS))
    rows, columns, counts = cells_of_pairs(merge_pairs(np.concatenate(pieces)), WORDS)
    ours = dict(
        zip(zip(rows.tolist(), columns.tolist(), strict=True), counts.tolist(), strict=True)
    )
    assert ours.keys() == expected.keys()
    for cell, count in ours.items():
        assert count / ONE == pytest.approx(float(expected[cell]), rel=1e-6)


def test_the_kernel_is_the_algorithm_of_the_paper() -> None:
    rng = np.random.default_rng(5)
    size, n, cells = 16, 8, 200
    start = [
        Table(
            np.concatenate([rng.normal(0, 0.5, (n, size)), np.ones((n, size))], 1).astype(
                np.float32
            ),
            np.stack([rng.normal(0, 0.5, n), np.ones(n)], 1).astype(np.float32),
        )
        for _ in range(2)
    ]
    given_cells = Cells(
        rng.integers(0, n, cells).astype(np.int32),
        rng.integers(0, n, cells).astype(np.int32),
        rng.normal(0, 1, cells).astype(np.float32),
        rng.random(cells).astype(np.float32),
    )
    ours = [Table(*(array.copy() for array in table)) for table in start]
    loss = train_cells(given_cells, ours[0], ours[1], np.float32(0.1))
    w, c = (table.vectors[:, :size].astype(np.float64) for table in start)
    w_sums, c_sums = np.ones((n, size)), np.ones((n, size))
    b, d = (table.biases[:, 0].astype(np.float64) for table in start)
    b_sums, d_sums = np.ones(n), np.ones(n)
    total = 0.0
    for i, j, log, weight in zip(*given_cells, strict=True):
        error = w[i] @ c[j] + b[i] + d[j] - log
        total += weight * error**2 / 2
        slope = weight * error
        w_gradient, c_gradient = slope * c[j], slope * w[i]
        w[i] -= 0.1 * w_gradient / np.sqrt(w_sums[i])
        c[j] -= 0.1 * c_gradient / np.sqrt(c_sums[j])
        b[i] -= 0.1 * slope / math.sqrt(b_sums[i])
        d[j] -= 0.1 * slope / math.sqrt(d_sums[j])
        w_sums[i] += w_gradient**2
        c_sums[j] += c_gradient**2
        b_sums[i] += slope**2
        d_sums[j] += slope**2
    assert loss == pytest.approx(total, rel=1e-5)
    for table, vectors, sums, biases in zip(ours, (w, c), (w_sums, c_sums), (b, d), strict=True):
        np.testing.assert_allclose(table.vectors[:, :size], vectors, rtol=0, atol=2e-5)
        np.testing.assert_allclose(table.vectors[:, size:], sums, rtol=1e-4)
        np.testing.assert_allclose(table.biases[:, 0], biases, rtol=0, atol=2e-5)


@pytest.mark.parametrize("groups", [1, 3])
def test_planted_analogies_and_similarities_are_learnt(
    tmp_path: Path, planted_tokens: Dataset, monkeypatch: pytest.MonkeyPatch, groups: int
) -> None:
    monkeypatch.setattr(train, "GROUP_CELLS", 23_000 // groups + 100)
    settings = {"x_max": 10, "epochs": 15}
    built = build(tmp_path, planted_tokens, model={"vector_size": 30}, optim=settings)
    path = built.storage.local_path("model.safetensors")
    assert path is not None
    accuracy, correlation = planted.evaluate(WordVectors.load(path.parent))
    assert accuracy > 0.9
    assert correlation > 0.6
    assert built.stats["loss"] < 0.1


def test_words_that_are_never_beside_another_are_refused(tmp_path: Path) -> None:
    tokens = corpora.token_shards(tmp_path, documents=["one", "two"] * 20)
    with pytest.raises(NoWordsError):
        build(tmp_path, tokens)


@pytest.mark.parametrize("section", [{"model": {"max_n": 5}}, {"optim": {"x_max": 0}}])
def test_settings_that_make_no_model_are_refused(section: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        parse_entry({"name": "vectors", "family": "glove", **section})
