"""Edits of training texts that keep their label: easy data augmentation (Wei and Zou 2019), without WordNet.

Each edit is a function of the seed, the example's id and the epoch, so a run that resumes sees the same texts. The
paper replaces words by synonyms; here they are replaced by neighbors in word vectors, if some are given.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from infra.dataset.fingerprint import json_sha256


@dataclass(frozen=True)
class Edits:
    """How texts are edited. The fractions are the paper's alpha, of the words of a text.

    Attributes:
        probability: of an example to be edited at all in an epoch.
        delete: probability of each word to be left out.
        swap: exchanges of two words, per word.
        insert: words of ``vocabulary`` put in anywhere, per word.
        replace: words replaced by one of their ``neighbors``, per word that has some.
        vocabulary: words to insert, such as those of the training split.
        neighbors: word in lower case -> similar words.
    """

    probability: float = 0.5
    delete: float = 0.1
    swap: float = 0.1
    insert: float = 0.0
    replace: float = 0.0
    vocabulary: Sequence[str] = ()
    neighbors: Mapping[str, Sequence[str]] = field(default_factory=dict)


def edit_words(
    words: Sequence[str], edits: Edits, *, seed: int, example_id: str, epoch: int
) -> list[str]:
    """Edit the words of a text; at least one word remains.

    Args:
        words: of the text.
        edits: what is done.
        seed: of the recipe.
        example_id: of the example.
        epoch: from 0.
    """
    rng = random.Random(json_sha256([seed, "augment", example_id, epoch]))
    out = list(words)
    if not out or rng.random() >= edits.probability:
        return out
    for index, word in enumerate(out):
        if (similar := edits.neighbors.get(word.casefold())) and rng.random() < edits.replace:
            out[index] = rng.choice(list(similar))
    for _ in range(_draw_count(edits.insert, len(words), rng)):
        if edits.vocabulary:
            out.insert(rng.randint(0, len(out)), rng.choice(edits.vocabulary))
    for _ in range(_draw_count(edits.swap, len(words), rng)):
        i, j = rng.randrange(len(out)), rng.randrange(len(out))
        out[i], out[j] = out[j], out[i]
    kept = [word for word in out if rng.random() >= edits.delete]
    return kept or [rng.choice(out)]


def edit_text(text: str, edits: Edits, *, seed: int, example_id: str, epoch: int) -> str:
    """Edit a text as ``edit_words`` does; words are what white space separates."""
    words = text.split()
    edited = edit_words(words, edits, seed=seed, example_id=example_id, epoch=epoch)
    return text if edited == words else " ".join(edited)


def _draw_count(fraction: float, n: int, rng: random.Random) -> int:
    """Draw a whole number whose mean is ``fraction * n``."""
    whole, rest = divmod(fraction * n, 1)
    return int(whole) + (rng.random() < rest)
