"""The baselines: a unigram and an interpolated 3-gram model over the model's own tokens.

The 3-gram is interpolated modified Kneser-Ney (Chen & Goodman 1998, "An Empirical Study of Smoothing
Techniques for Language Modeling", section 4.1.6), the strongest of the classical smoothings, as
KenLM implements it (Heafield et al. 2013): three discounts per order from counts of counts, lower
orders from the number of distinct left neighbors, the lowest interpolated with the uniform
distribution. Its discounts come from the training counts alone; nothing is tuned on the scored text.

Probabilities sum to 1 over the vocabulary after any two tokens.
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

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)  # used where counts of counts are 0, as in KenLM
MAX_VOCAB_SIZE = 1 << 21  # three ids in one 64-bit key


@dataclass(frozen=True)
class NgramOrder:
    """Discounted counts of one order of a Kneser-Ney model.

    Attributes:
        keys: uint64[n] sorted; (w_1, ..., w_k) as one number in base V.
        discounted: float64[n]; (c - D(c)) / c(context).
        contexts: uint64[m] sorted; the first k - 1 words.
        backoff: float64[m]; the probability mass of a context that goes to the lower order.
    """

    keys: Keys
    discounted: Floats
    contexts: Keys
    backoff: Floats

    @staticmethod
    def from_counts(keys: Keys, counts: Counts, vocab_size: int) -> "NgramOrder":
        """Discount the counts of sorted, distinct keys."""
        key_contexts = keys // np.uint64(vocab_size)
        first = np.flatnonzero(np.diff(key_contexts, prepend=key_contexts[:1] + np.uint64(1)))
        if len(keys) == 0:
            return NgramOrder(keys, np.zeros(0), key_contexts, np.zeros(0))
        totals = np.add.reduceat(counts, first)
        taken = _discount_per_count(counts, estimate_discounts(counts))
        spans = np.diff(first, append=len(keys))
        return NgramOrder(
            keys,
            (counts - taken) / np.repeat(totals, spans),
            key_contexts[first],
            np.add.reduceat(taken, first) / totals,
        )

    def interpolate(self, contexts: Keys, keys: Keys, lower: Floats) -> Floats:
        """Return the probability of each key's last word after its context: float64[n]."""
        known, index = _lookup(self.contexts, contexts)
        backoff = np.where(known, self.backoff[index] if len(self.backoff) else 1.0, 1.0)
        known, index = _lookup(self.keys, keys)
        own = np.where(known, self.discounted[index] if len(self.discounted) else 0.0, 0.0)
        result: Floats = own + backoff * lower
        return result


def estimate_discounts(counts: Counts) -> tuple[float, float, float]:
    """Estimate the discounts of counts of 1, 2, and 3 or more.

    With n_i the number of keys that occur i times and Y = n_1 / (n_1 + 2 n_2):
    D_i = i - (i + 1) Y n_{i+1} / n_i (Chen & Goodman 1998, equation 26).
    """
    n = [int(np.count_nonzero(counts == i)) for i in range(5)]
    if not all(n[1:5]):
        return FALLBACK_DISCOUNTS
    y = n[1] / (n[1] + 2 * n[2])
    one, two, three = (i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3))
    if not (0 < one <= 1 and 0 < two <= 2 and 0 < three <= 3):
        return FALLBACK_DISCOUNTS
    return one, two, three


def _discount_per_count(counts: Counts, discounts: tuple[float, float, float]) -> Floats:
    table = np.array([0.0, *discounts])
    result: Floats = table[np.minimum(counts, 3)]
    return result


def _lookup(sorted_keys: Keys, wanted: Keys) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
    """Return whether each wanted key exists, and its index (any valid index if it does not)."""
    if len(sorted_keys) == 0:
        return np.zeros(len(wanted), bool), np.zeros(len(wanted), np.intp)
    index = np.minimum(np.searchsorted(sorted_keys, wanted), len(sorted_keys) - 1)
    return sorted_keys[index] == wanted, index


def _count_distinct(keys: Keys) -> tuple[Keys, Counts]:
    """Return the distinct keys of a sorted array, and how often each occurs."""
    first = np.flatnonzero(np.diff(keys, prepend=keys[:1] + np.uint64(1)))
    return keys[first], np.diff(first, append=len(keys)).astype(np.int64)


def trigram_keys(stream: Tokens, vocab_size: int, eos: int) -> Keys:
    """Return the key of each token of a stream with the two tokens before it: uint64[n].

    A stream is documents one after the other, each followed by ``eos``. A document's first token
    follows two ``eos``. The base of the keys is ``vocab_size``.
    """
    words = stream.astype(np.uint64)
    before = np.concatenate([[eos], words[:-1]]).astype(np.uint64)
    earlier = np.concatenate([[eos], before[:-1]]).astype(np.uint64)
    earlier[before == eos] = eos
    base = np.uint64(vocab_size)
    keys: Keys = (earlier * base + before) * base + words
    return keys


class Trigram:
    """Interpolated modified Kneser-Ney of order 3."""

    def __init__(self, keys: Keys, vocab_size: int, eos: int) -> None:
        """Count the ``trigram_keys`` of the training text, which are sorted in place."""
        if vocab_size > MAX_VOCAB_SIZE:
            raise ValueError(f"a vocabulary of {vocab_size} ids is too large for 3-gram keys")
        self._vocab_size, self._eos = vocab_size, eos
        base = np.uint64(vocab_size)
        keys.sort()
        three, counts = _count_distinct(keys)
        # The count of a bigram is its number of distinct left neighbors. A bigram at the beginning of a
        # document always has the same one, so its count is the number of occurrences.
        two, neighbors = _count_distinct(np.sort(three % (base * base)))
        opening = three // base == eos * vocab_size + eos
        neighbors[np.searchsorted(two, three[opening] % (base * base))] = counts[opening]
        lefts = np.bincount((two % base).astype(np.int64), minlength=vocab_size).astype(np.int64)
        self._three = NgramOrder.from_counts(three, counts, vocab_size)
        self._two = NgramOrder.from_counts(two, neighbors, vocab_size)
        self._one = interpolate_uniform(lefts, estimate_discounts(lefts))

    @property
    def distinct_ngrams(self) -> dict[str, int]:
        """Number of distinct n-grams, by order."""
        return {"bigrams": len(self._two.keys), "trigrams": len(self._three.keys)}

    def probabilities(self, keys: Keys) -> Floats:
        """Return the probability of each key's last token after its first two: float64[n]."""
        base = np.uint64(self._vocab_size)
        one = self._one[(keys % base).astype(np.int64)]
        two_keys = keys % (base * base)
        two = self._two.interpolate(two_keys // base, two_keys, one)
        return self._three.interpolate(keys // base, keys, two)

    def score_texts(self, documents: Sequence[Tokens]) -> list[Nats]:
        """See ``TextScorer``."""
        return [
            -np.log(self.probabilities(trigram_keys(ids, self._vocab_size, self._eos)))
            for ids in documents
        ]


class Unigram:
    """Each token's relative frequency in the training text, discounted for tokens that do not occur."""

    def __init__(self, counts: Counts) -> None:
        """Estimate from int64[V], how often each token occurs."""
        n = [int(np.count_nonzero(counts == i)) for i in range(3)]
        # Absolute discounting with its leave-one-out estimate (Ney, Essen & Kneser 1994).
        one = n[1] / (n[1] + 2 * n[2]) if n[1] and n[2] else 0.5
        self._nats: Nats = -np.log(interpolate_uniform(counts, (one, one, one)))

    def score_texts(self, documents: Sequence[Tokens]) -> list[Nats]:
        """See ``TextScorer``."""
        return [self._nats[ids.astype(np.int64)] for ids in documents]


def interpolate_uniform(counts: Counts, discounts: tuple[float, float, float]) -> Floats:
    """Return discounted relative counts, the discounts distributed evenly over all V: float64[V]."""
    total = int(counts.sum())
    if total == 0:
        return np.full(len(counts), 1 / len(counts))
    discount = _discount_per_count(counts, discounts)
    result: Floats = (counts - discount) / total + discount.sum() / total / len(counts)
    return result


def count_ngrams(
    streams: Iterable[Tokens], num_tokens: int, vocab_size: int, eos: int
) -> tuple[Counts, Keys]:
    """Return unigram counts and trigram keys of streams of whole documents, ``num_tokens`` in all."""
    keys = np.empty(num_tokens, np.uint64)
    counts = np.zeros(vocab_size, np.int64)
    at = 0
    for stream in streams:
        keys[at : at + len(stream)] = trigram_keys(stream, vocab_size, eos)
        counts += np.bincount(stream.astype(np.int64), minlength=vocab_size)
        at += len(stream)
    return counts, keys[:at]
