"""Two baselines that only count: a unigram and an interpolated 3-gram over the model's own tokens.

The 3-gram is interpolated modified Kneser-Ney (Chen & Goodman 1998, "An Empirical Study of Smoothing
Techniques for Language Modeling", section 4.1.6), the strongest of the classical smoothings, as
KenLM implements it (Heafield et al. 2013): three discounts per order from counts of counts, lower
orders from the number of different left neighbours, the lowest interpolated with the uniform
distribution. Its discounts come from the training counts alone; nothing is tuned on what it scores.

Every probability is proper: over the vocabulary they sum to 1 after any two tokens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from infra.formats.megatron import Tokens
from tasks.evaluate.language_model import Nats

Keys = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FALLBACK = (0.5, 1.0, 1.5)  # discounts where counts of counts are too few, as in KenLM
LARGEST_VOCABULARY = 1 << 21  # three ids in one 64-bit key


@dataclass(frozen=True)
class Order:
    """Discounted counts of one order of a Kneser-Ney model.

    Attributes:
        keys: uint64[n] sorted; (w_1, ..., w_k) as one number in base V.
        discounted: float64[n]; (c - D(c)) / c(context).
        contexts: uint64[m] sorted; the first k - 1 words.
        backoff: float64[m]; the probability that a context leaves to the lower order.
    """

    keys: Keys
    discounted: Floats
    contexts: Keys
    backoff: Floats

    @staticmethod
    def of(keys: Keys, counts: Counts, vocabulary: int) -> "Order":
        """Discount the counts of sorted, distinct keys."""
        owners = keys // np.uint64(vocabulary)
        first = np.flatnonzero(np.diff(owners, prepend=owners[:1] + np.uint64(1)))
        if len(keys) == 0:
            return Order(keys, np.zeros(0), owners, np.zeros(0))
        totals = np.add.reduceat(counts, first)
        taken = _discount(counts, discounts(counts))
        spans = np.diff(first, append=len(keys))
        return Order(
            keys,
            (counts - taken) / np.repeat(totals, spans),
            owners[first],
            np.add.reduceat(taken, first) / totals,
        )

    def interpolate(self, contexts: Keys, keys: Keys, lower: Floats) -> Floats:
        """float64[n]: the probability of each key's last word after its context."""
        seen, place = _find(self.contexts, contexts)
        backoff = np.where(seen, self.backoff[place] if len(self.backoff) else 1.0, 1.0)
        seen, place = _find(self.keys, keys)
        own = np.where(seen, self.discounted[place] if len(self.discounted) else 0.0, 0.0)
        result: Floats = own + backoff * lower
        return result


def discounts(counts: Counts) -> tuple[float, float, float]:
    """What is taken from counts of 1, 2, and 3 or more.

    With n_i the number of keys that occur i times and Y = n_1 / (n_1 + 2 n_2):
    D_i = i - (i + 1) Y n_{i+1} / n_i (Chen & Goodman 1998, equation 26).
    """
    n = [int(np.count_nonzero(counts == i)) for i in range(5)]
    if not all(n[1:5]):
        return FALLBACK
    y = n[1] / (n[1] + 2 * n[2])
    one, two, three = (i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3))
    if not (0 < one <= 1 and 0 < two <= 2 and 0 < three <= 3):
        return FALLBACK
    return one, two, three


def _discount(counts: Counts, taken: tuple[float, float, float]) -> Floats:
    table = np.array([0.0, *taken])
    result: Floats = table[np.minimum(counts, 3)]
    return result


def _find(sorted_keys: Keys, wanted: Keys) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
    """Whether each wanted key is there, and where (some valid place if it is not)."""
    if len(sorted_keys) == 0:
        return np.zeros(len(wanted), bool), np.zeros(len(wanted), np.intp)
    place = np.minimum(np.searchsorted(sorted_keys, wanted), len(sorted_keys) - 1)
    return sorted_keys[place] == wanted, place


def _distinct(keys: Keys) -> tuple[Keys, Counts]:
    """The distinct keys of a sorted array, and how often each occurs."""
    first = np.flatnonzero(np.diff(keys, prepend=keys[:1] + np.uint64(1)))
    return keys[first], np.diff(first, append=len(keys)).astype(np.int64)


def trigrams(stream: Tokens, vocabulary: int, eos: int) -> Keys:
    """uint64[n]: the key of each token of a stream with the two tokens before it.

    Args:
        stream: documents one after the other, each closed by ``eos``. A document's first token
            follows two ``eos``.
        vocabulary: V, the base of the keys.
        eos: the id that closes documents.
    """
    words = stream.astype(np.uint64)
    before = np.concatenate([[eos], words[:-1]]).astype(np.uint64)
    earlier = np.concatenate([[eos], before[:-1]]).astype(np.uint64)
    earlier[before == eos] = eos
    base = np.uint64(vocabulary)
    keys: Keys = (earlier * base + before) * base + words
    return keys


class Trigram:
    """Interpolated modified Kneser-Ney of order 3."""

    def __init__(self, keys: Keys, vocabulary: int, eos: int) -> None:
        """Count.

        Args:
            keys: ``trigrams`` of the training text; sorted in place.
            vocabulary: V.
            eos: the id that closes documents.
        """
        if vocabulary > LARGEST_VOCABULARY:
            raise ValueError(f"a vocabulary of {vocabulary} ids is too large for 3-gram keys")
        self._vocabulary, self._eos = vocabulary, eos
        base = np.uint64(vocabulary)
        keys.sort()
        three, counts = _distinct(keys)
        # A bigram counts as often as it has different left neighbours; one that opens a document
        # has none that could differ, so it counts as often as it occurs.
        two, neighbours = _distinct(np.sort(three % (base * base)))
        opening = three // base == eos * vocabulary + eos
        neighbours[np.searchsorted(two, three[opening] % (base * base))] = counts[opening]
        lefts = np.bincount((two % base).astype(np.int64), minlength=vocabulary).astype(np.int64)
        self._three = Order.of(three, counts, vocabulary)
        self._two = Order.of(two, neighbours, vocabulary)
        self._one = with_uniform(lefts, discounts(lefts))

    @property
    def size(self) -> dict[str, int]:
        """How many different n-grams were counted, by order."""
        return {"bigrams": len(self._two.keys), "trigrams": len(self._three.keys)}

    def probabilities(self, keys: Keys) -> Floats:
        """float64[n]: the probability of each key's last token after its first two."""
        base = np.uint64(self._vocabulary)
        one = self._one[(keys % base).astype(np.int64)]
        two_keys = keys % (base * base)
        two = self._two.interpolate(two_keys // base, two_keys, one)
        return self._three.interpolate(keys // base, keys, two)

    def score_texts(self, documents: Sequence[Tokens]) -> list[Nats]:
        """See ``model.TextScorer``."""
        return [
            -np.log(self.probabilities(trigrams(ids, self._vocabulary, self._eos)))
            for ids in documents
        ]


class Unigram:
    """Each token's share of the training text, discounted for tokens that did not occur there."""

    def __init__(self, counts: Counts) -> None:
        """Take int64[V]: how often each token occurs."""
        n = [int(np.count_nonzero(counts == i)) for i in range(3)]
        # Absolute discounting with its leave-one-out estimate (Ney, Essen & Kneser 1994).
        one = n[1] / (n[1] + 2 * n[2]) if n[1] and n[2] else 0.5
        self._nats: Nats = -np.log(with_uniform(counts, (one, one, one)))

    def score_texts(self, documents: Sequence[Tokens]) -> list[Nats]:
        """See ``model.TextScorer``."""
        return [self._nats[ids.astype(np.int64)] for ids in documents]


def with_uniform(counts: Counts, taken: tuple[float, float, float]) -> Floats:
    """float64[V]: discounted relative counts; what was taken is spread evenly over all V."""
    total = int(counts.sum())
    if total == 0:
        return np.full(len(counts), 1 / len(counts))
    discount = _discount(counts, taken)
    result: Floats = (counts - discount) / total + discount.sum() / total / len(counts)
    return result


def count(streams: Iterable[Tokens], tokens: int, vocabulary: int, eos: int) -> tuple[Counts, Keys]:
    """Unigram counts and trigram keys of ``tokens`` tokens that arrive in pieces of documents.

    Args:
        streams: whole documents, one or more per piece.
        tokens: their number in all.
        vocabulary: V.
        eos: the id that closes documents.
    """
    keys = np.empty(tokens, np.uint64)
    counts = np.zeros(vocabulary, np.int64)
    at = 0
    for stream in streams:
        keys[at : at + len(stream)] = trigrams(stream, vocabulary, eos)
        counts += np.bincount(stream.astype(np.int64), minlength=vocabulary)
        at += len(stream)
    return counts, keys[:at]
