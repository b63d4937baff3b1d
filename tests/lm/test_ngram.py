from collections import Counter, defaultdict
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.formats.megatron import Tokens
from lm.models.ngram.counts import count_windows
from lm.models.ngram.estimate import estimate_model
from lm.models.ngram.model import NgramModel
from lm.models.ngram.smoothing import FALLBACK_DISCOUNTS, estimate_discounts
from lm.models.ngram.windows import WindowFormat

V, EOS = 7, 3
BOS = -1
Gram = tuple[int, ...]
WORD = st.sampled_from([word for word in range(V) if word != EOS])
DOCUMENTS = st.lists(st.lists(WORD, max_size=12).map(lambda ids: [*ids, EOS]), max_size=12)
ORDERS = st.integers(1, 6)


def stream(documents: list[list[int]]) -> Tokens:
    return np.array([word for document in documents for word in document], np.uint16)


def model(
    documents: list[list[int]], order: int, vocabulary: int = V, prune: tuple[int, ...] = ()
) -> NgramModel:
    window = WindowFormat(vocabulary, EOS, max(order, 2))
    return estimate_model(window.pack(stream(documents)), window, prune or (0,) * order)


def zipf_documents(vocabulary: int, tokens: int) -> list[list[int]]:
    rng = np.random.default_rng(5)
    words = np.minimum(rng.zipf(1.4, tokens), vocabulary - 1)
    words[words == EOS] = 0
    return [[*piece.tolist(), EOS] for piece in np.split(words, tokens // 100)]


class Textbook:
    """The same model from its definition, with dictionaries; BOS begins documents."""

    def __init__(
        self, documents: list[list[int]], order: int, vocabulary: int, prune: tuple[int, ...] = ()
    ) -> None:
        self.vocabulary = vocabulary
        self.occurrences: Counter[Gram] = Counter()
        lefts: defaultdict[Gram, set[int]] = defaultdict(set)
        for document in documents:
            padded = [BOS, *document]
            for end in range(2, len(padded) + 1):
                for start in range(max(0, end - order), end):
                    self.occurrences[tuple(padded[start:end])] += 1
                    if start:
                        lefts[tuple(padded[start:end])].add(padded[start - 1])
        self.counts = {
            gram: n if len(gram) == order or gram[0] == BOS else len(lefts[gram])
            for gram, n in self.occurrences.items()
        }
        self.pruned = {
            gram
            for gram, n in self.occurrences.items()
            if n <= (prune or (0,) * order)[len(gram) - 1]
        }
        self.following: defaultdict[Gram, list[Gram]] = defaultdict(list)
        for gram in self.counts:
            self.following[gram[:-1]].append(gram)
        self.discounts = [self.estimate(k) for k in range(1, order + 1)]

    def estimate(self, order: int) -> tuple[float, float, float]:
        of = Counter(n for gram, n in self.counts.items() if len(gram) == order)
        if not all(of[i] for i in (1, 2, 3, 4)):
            return FALLBACK_DISCOUNTS
        y = of[1] / (of[1] + 2 * of[2])
        one, two, three = (i - (i + 1) * y * of[i + 1] / of[i] for i in (1, 2, 3))
        usable = 0 < one <= 1 and 0 < two <= 2 and 0 < three <= 3
        return (one, two, three) if usable else FALLBACK_DISCOUNTS

    def discount(self, gram: Gram) -> float:
        if gram in self.pruned:
            return self.counts[gram]
        return self.discounts[len(gram) - 1][min(self.counts[gram], 3) - 1]

    def probability(self, context: Gram, word: int) -> float:
        lower = self.probability(context[1:], word) if context else 1 / self.vocabulary
        after = self.following.get(context, [])
        if not after:
            return lower
        total = sum(self.counts[gram] for gram in after)
        gram = (*context, word)
        own = (self.counts[gram] - self.discount(gram)) / total if gram in self.counts else 0.0
        return own + lower * sum(map(self.discount, after)) / total

    def after(self, history: list[int], order: int) -> list[float]:
        context = (BOS, *history)[max(0, len(history) + 2 - order) :] if order > 1 else ()
        return [self.probability(context, word) for word in range(self.vocabulary)]


@given(DOCUMENTS, ORDERS, st.lists(WORD, max_size=6))
def test_probabilities_are_those_of_the_definition(
    documents: list[list[int]], order: int, history: list[int]
) -> None:
    expected = Textbook(documents, order, V).after(history, order)
    assert model(documents, order).distribution(history) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("prune", [(0, 0, 0, 0), (0, 0, 1, 2)])
def test_estimated_discounts_and_pruning_are_those_of_the_definition(
    prune: tuple[int, ...],
) -> None:
    documents = zipf_documents(60, 4_000)
    textbook = Textbook(documents, 4, 60, prune)
    assert textbook.discounts[3] != FALLBACK_DISCOUNTS
    ours = model(documents, 4, 60, prune)
    for history in ([], [1], [1, 1], [1, 0, 2], [1, 1, 1, 1], [59, 58, 57]):
        assert ours.distribution(history) == pytest.approx(textbook.after(history, 4), abs=1e-9)


@given(DOCUMENTS, ORDERS, st.lists(WORD, max_size=6), st.integers(0, 2))
def test_probabilities_sum_to_one_after_any_history(
    documents: list[list[int]], order: int, history: list[int], pruned: int
) -> None:
    prune = (0, *(pruned,) * (order - 1))
    found = model(documents, order, V, prune).distribution(history)
    assert found.sum() == pytest.approx(1, abs=1e-12)
    assert (found > 0).all()


@given(DOCUMENTS, ORDERS, st.lists(WORD, max_size=9).map(lambda ids: [*ids, EOS, 1, EOS]))
def test_the_score_of_a_text_is_the_probability_of_each_token_after_those_before(
    documents: list[list[int]], order: int, text: list[int]
) -> None:
    ours = model(documents, order)
    expected: list[float] = []
    history: list[int] = []
    for word in text:
        expected.append(-log(ours.distribution(history)[word]))
        history = [] if word == EOS else [*history, word]
    assert ours.score(np.array(text)) == pytest.approx(expected)


@given(DOCUMENTS, st.integers(2, 6))
def test_counts_are_those_of_a_dictionary(documents: list[list[int]], order: int) -> None:
    window = WindowFormat(V, EOS, order)
    counted = count_windows(window.pack(stream(documents)), window, order, (0,) * order)
    textbook = Textbook(documents, order, V)
    grams: list[Gram] = [(word,) for word in range(V)]
    for k, level in enumerate(counted, 2):
        grams = [
            (*grams[parent], word)
            for parent, word in zip(level.parents.tolist(), level.words.tolist(), strict=True)
        ]
        # As the first id, the end of text stands for the beginning of a document.
        marked = [(BOS if gram[0] == EOS else gram[0], *gram[1:]) for gram in grams]
        expected = {gram: n for gram, n in textbook.counts.items() if len(gram) == k}
        assert dict(zip(marked, level.counts.tolist(), strict=True)) == expected
        assert grams == sorted(grams)


def test_large_vocabularies_have_rows_of_several_words() -> None:
    ids = [1 << 30, 5, (1 << 31) - 1, 5, 1 << 30]
    window = WindowFormat(1 << 31, 0, 5)
    rows = window.sort(window.pack(np.array([*ids, 0], np.int64)))
    assert window.width == 3
    assert window.unpack(rows).T.tolist() == [
        [0, *ids[:4], 0],
        [5, ids[4], 0, 0, 0, ids[2]],
        [5, ids[2], 5, ids[4], 0, ids[0]],
        [ids[0], 0, 0, 0, 0, 5],
        [ids[0], 5, ids[2], 5, ids[4], 0],
        [ids[2], 5, ids[4], 0, 0, 5],
    ]


def test_discounts_need_all_counts_from_one_to_four() -> None:
    assert estimate_discounts([100, 40, 20, 10]) == pytest.approx((5 / 9, 1 + 1 / 6, 3 - 10 / 9))
    assert estimate_discounts([100, 40, 20, 0]) is None
    assert estimate_discounts([1, 1, 100, 1]) is None  # the second would be negative
