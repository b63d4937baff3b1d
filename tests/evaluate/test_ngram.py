from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.formats.megatron import Tokens
from tasks.evaluate.ngram import (
    FALLBACK_DISCOUNTS,
    Trigram,
    Unigram,
    count_ngrams,
    estimate_discounts,
    interpolate_uniform,
    trigram_keys,
)

V, EOS = 7, 0
DOCUMENTS = st.lists(
    st.lists(st.integers(1, V - 1), max_size=12).map(lambda words: [*words, EOS]), max_size=12
)


def stream(documents: list[list[int]]) -> Tokens:
    return np.array([word for document in documents for word in document], np.uint16)


def model(documents: list[list[int]], vocabulary: int = V) -> Trigram:
    return Trigram(trigram_keys(stream(documents), vocabulary, EOS), vocabulary, EOS)


def everything(
    first: int, second: int, vocabulary: int = V
) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    context = (first * vocabulary + second) * vocabulary
    return np.arange(context, context + vocabulary).astype(np.uint64)


class Reference:
    """The same model from its textbook definition, with dictionaries."""

    def __init__(self, documents: list[list[int]], vocabulary: int) -> None:
        self.vocabulary = vocabulary
        three: Counter[tuple[int, ...]] = Counter()
        for document in documents:
            padded = [EOS, EOS, *document]
            three.update(zip(padded, padded[1:], padded[2:], strict=False))
        two: Counter[tuple[int, ...]] = Counter()
        for (first, second, third), n in three.items():
            two[second, third] += 1 if (first, second) != (EOS, EOS) else n
        for second, third in two:
            if second == EOS:
                two[second, third] = three[EOS, EOS, third]
        one: Counter[tuple[int, ...]] = Counter((third,) for _, third in two)
        self.orders = [one, two, three]

    def discount(self, order: Counter[tuple[int, ...]], n: int) -> float:
        of = Counter(order.values())
        if not all(of[i] for i in (1, 2, 3, 4)):
            return FALLBACK_DISCOUNTS[min(n, 3) - 1]
        y = of[1] / (of[1] + 2 * of[2])
        values = [i - (i + 1) * y * of[i + 1] / of[i] for i in (1, 2, 3)]
        if any(not 0 < value <= i for i, value in enumerate(values, 1)):
            return FALLBACK_DISCOUNTS[min(n, 3) - 1]
        return values[min(n, 3) - 1]

    def probability(self, context: tuple[int, ...], word: int) -> float:
        order = self.orders[len(context)]
        lower = self.probability(context[1:], word) if context else 1 / self.vocabulary
        after = {key: n for key, n in order.items() if key[:-1] == context}
        total = sum(after.values())
        if total == 0:
            return lower
        n = order[(*context, word)]
        own = max(n - self.discount(order, n), 0) / total if n else 0.0
        return own + lower * sum(self.discount(order, n) for n in after.values()) / total


@given(DOCUMENTS)
def test_probabilities_are_those_of_the_definition(documents: list[list[int]]) -> None:
    counted, reference = model(documents), Reference(documents, V)
    for first, second in ((EOS, EOS), (EOS, 1), (1, 2), (3, 3), (6, 1)):
        expected = [reference.probability((first, second), word) for word in range(V)]
        assert counted.probabilities(everything(first, second)) == pytest.approx(expected)


@given(DOCUMENTS)
def test_probabilities_sum_to_one_after_any_context(documents: list[list[int]]) -> None:
    counted = model(documents)
    for first in range(V):
        for second in range(V):
            found = counted.probabilities(everything(first, second))
            assert found.sum() == pytest.approx(1)
            assert (found > 0).all()
    counts = np.bincount(stream(documents).astype(np.int64), minlength=V)
    every = Unigram(counts.astype(np.int64)).score_texts([np.arange(V, dtype=np.uint16)])[0]
    assert np.exp(-every).sum() == pytest.approx(1)


def test_discounts_from_enough_counts_sum_to_one_too() -> None:
    rng = np.random.default_rng(5)
    vocabulary = 300
    words = np.minimum(rng.zipf(1.4, 30_000), vocabulary - 1)
    documents = [[*piece.tolist(), EOS] for piece in np.split(words, 300)]
    counted = model(documents, vocabulary)
    reference = Reference(documents, vocabulary)
    assert (
        estimate_discounts(np.array(list(reference.orders[2].values()), np.int64))
        != FALLBACK_DISCOUNTS
    )
    for first, second in ((EOS, EOS), (1, 1), (7, 2), (299, 298)):
        found = counted.probabilities(everything(first, second, vocabulary))
        assert found.sum() == pytest.approx(1)
        for word in (EOS, 1, 5, 100):
            assert found[word] == pytest.approx(reference.probability((first, second), word))


def test_what_was_seen_is_likelier_than_what_was_not() -> None:
    counted = model([[1, 2, 3, EOS]] * 5)
    after = counted.probabilities(everything(1, 2))
    assert after.argmax() == 3
    assert after[3] > 0.5


def test_a_document_starts_afresh() -> None:
    keys = trigram_keys(np.array([1, 2, EOS, 3, 4, EOS], np.uint16), V, EOS).tolist()
    contexts = [(key // V // V, key // V % V, key % V) for key in keys]
    assert contexts == [(0, 0, 1), (0, 1, 2), (1, 2, 0), (0, 0, 3), (0, 3, 4), (3, 4, 0)]


@given(DOCUMENTS, st.integers(1, 5))
def test_counts_do_not_depend_on_the_pieces(documents: list[list[int]], size: int) -> None:
    total = sum(map(len, documents))
    whole = count_ngrams([stream(documents)], total, V, EOS)
    pieces = [stream(documents[at : at + size]) for at in range(0, len(documents), size)]
    parts = count_ngrams(pieces, total, V, EOS)
    assert whole[0].tolist() == parts[0].tolist()
    assert whole[1].tolist() == parts[1].tolist()


def test_without_training_text_all_tokens_are_alike() -> None:
    assert model([]).probabilities(everything(1, 2)) == pytest.approx([1 / V] * V)
    assert interpolate_uniform(np.zeros(V, np.int64), FALLBACK_DISCOUNTS) == pytest.approx(
        [1 / V] * V
    )


def test_a_vocabulary_too_large_for_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        Trigram(np.zeros(0, np.uint64), 1 << 22, EOS)
