"""The model: a trie of n-grams from their first id on, from which probabilities are computed.

The nodes are the n-grams, first those of order 1 (node i is id i), then order by order, each sorted by its
ids. So the children of a node, the n-grams that continue it, are consecutive nodes sorted by their
last id. As a context, node ``eos`` is the beginning of a document: the empty history.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infra.compute.arrays import F64, I32, I64
from infra.compute.jit import jit
from infra.formats.megatron import Tokens


@dataclass(frozen=True)
class NgramModel:
    """A Kneser-Ney model (``lm.models.ngram.smoothing``). Probabilities sum to 1 after any history.

    Attributes:
        eos: the id that ends documents.
        sizes: number of n-grams of each order from 1 on; the first is the size of the vocabulary.
        words: int32[nodes]; the last id.
        discounted: float64[nodes]; (c - D(c)) / c(h); of order 1 the probability.
        children: int64[contexts + 1]; the first child of each node below the highest order, and
            the end of the last one's.
        backoff: float64[contexts]; the fraction that goes to the lower order.
    """

    eos: int
    sizes: tuple[int, ...]
    words: I32
    discounted: F64
    children: I64
    backoff: F64

    @property
    def order(self) -> int:
        """The highest order."""
        return len(self.sizes)

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self.sizes[0]

    @staticmethod
    def from_arrays(config: Mapping[str, Any], arrays: Mapping[str, Any]) -> "NgramModel":
        """Make a model of what ``config`` and ``arrays`` returned."""
        names = ("words", "discounted", "children", "backoff")
        return NgramModel(config["eos"], tuple(config["sizes"]), *(arrays[name] for name in names))

    def score(self, document: Tokens) -> F64:
        """Return -ln p of each token of a document after those before it: float64[n]."""
        history = np.full(max(self.order - 1, 1), -1, np.int64)
        history[0] = self.eos
        probabilities = _walk(document.astype(np.int64), history, self.eos, *self.arrays)
        nats: F64 = -np.log(probabilities)
        return nats

    def distribution(self, history: Sequence[int] | Tokens) -> F64:
        """Return the probability of each id after the ids that begin a document: float64[V]."""
        result = self.discounted[: self.vocab_size].copy()
        for node in self._contexts(history):
            result *= self.backoff[node]
            first, end = self.children[node], self.children[node + 1]
            result[self.words[first:end]] += self.discounted[first:end]
        return result

    def _contexts(self, history: Sequence[int] | Tokens) -> list[int]:
        """Return the nodes of the last id, the last two ids, and so on, as far as they exist."""
        nodes = np.full(max(self.order - 1, 1), -1, np.int64)
        nodes[0] = self.eos
        _walk(np.asarray(history, np.int64), nodes, self.eos, *self.arrays)
        return [int(node) for node in nodes[: self.order - 1] if node >= 0]

    @property
    def arrays(self) -> tuple[I32, F64, I64, F64]:
        """The arrays of all nodes, in the order of the attributes."""
        return self.words, self.discounted, self.children, self.backoff


@jit
def find_child(words: I32, children: I64, node: int, word: int) -> int:
    """Return the child of a node with this last id; -1 if there is none."""
    low, end = children[node], children[node + 1]
    high = end
    while low < high:
        middle = (low + high) // 2
        if words[middle] < word:
            low = middle + 1
        else:
            high = middle
    return low if low < end and words[low] == word else -1


@jit
def _walk(
    ids: I64, contexts: I64, eos: int, words: I32, discounted: F64, children: I64, backoff: F64
) -> F64:
    """Return the probability of each id.

    ``contexts`` holds the nodes of the last id, the last two and so on, -1 where there is none, and
    receives those after the ids.
    """
    probabilities = np.empty(len(ids), np.float64)
    has_contexts = len(backoff) > 0
    for i in range(len(ids)):
        word = ids[i]
        probability = discounted[word]
        longer = word  # the n-gram that ends with this id, one order higher in each turn
        for k in range(len(contexts) if has_contexts else 0):
            node, contexts[k] = contexts[k], longer
            longer = -1
            if node >= 0:
                probability *= backoff[node]
                longer = find_child(words, children, node, word)
                if longer >= 0:
                    probability += discounted[longer]
        if word == eos:
            contexts[1:] = -1
            contexts[0] = eos
        probabilities[i] = probability
    return probabilities
