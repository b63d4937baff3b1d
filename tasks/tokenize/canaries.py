"""Canaries: made-up secrets that are planted in training documents, to measure what models memorize of them.

Carlini et al. 2019 (arXiv:1802.08232). Canaries depend on the recipe's seed alone. A document gets one if it is the next
on a ring of hashes, so another document in the corpus moves at most the canaries of its neighbor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from infra.dataset.fingerprint import hash_to_unit, json_sha256
from tasks.tokenize.config import CanariesConfig

DIGITS = 9  # of a secret, in groups of three
_SYLLABLES = tuple(a + b for a in "bdfgklmnprst" for b in "aeiou")


@dataclass(frozen=True)
class Canary:
    """A sentence with a secret.

    Attributes:
        id: its name.
        prefix: the sentence up to the secret.
        secret: random digits.
        repetitions: how often it is planted; 0: never, to compare with.
    """

    id: str
    prefix: str
    secret: str
    repetitions: int

    @property
    def text(self) -> str:
        """The sentence."""
        return f"{self.prefix} {self.secret}"

    def to_json(self) -> dict[str, str | int]:
        """Return it as JSON values."""
        return asdict(self)


def make_canaries(config: CanariesConfig, seed: int) -> list[Canary]:
    """Return the canaries of a recipe: of each number of repetitions, and of none, as many."""
    canaries = []
    for repetitions in sorted({0, *config.repetitions}):
        for number in range(config.per_group):
            name = f"canary-{repetitions}-{number}"
            draw = np.random.default_rng(int(json_sha256(["canary", seed, name])[:16], 16))
            syllables = [_SYLLABLES[index] for index in draw.integers(0, len(_SYLLABLES), 6)]
            owner = " ".join("".join(syllables[at : at + 3]).capitalize() for at in (0, 3))
            digits = "".join(map(str, draw.integers(0, 10, DIGITS)))
            secret = " ".join(digits[at : at + 3] for at in range(0, DIGITS, 3))
            canaries.append(Canary(name, f"The access code of {owner} is", secret, repetitions))
    return canaries


def choose_documents(
    canaries: Sequence[Canary], documents: Sequence[str], seed: int
) -> dict[str, list[str]]:
    """Return the sentences that documents get, by id; a document may get several.

    Args:
        canaries: each is planted in as many documents as it has repetitions.
        documents: ids of the training documents.
        seed: of the recipe.
    """
    if not documents:
        return {}
    names = sorted(set(documents))
    places = np.array([hash_to_unit(seed, "canary place", name) for name in names])
    order = np.argsort(places, kind="stable")
    ring = places[order]
    chosen: dict[str, list[str]] = {}
    for canary in canaries:
        for number in range(canary.repetitions):
            at = int(np.searchsorted(ring, hash_to_unit(seed, canary.id, number))) % len(ring)
            chosen.setdefault(names[int(order[at])], []).append(canary.text)
    return chosen


def plant(table: pa.Table, sentences: Mapping[str, Sequence[str]]) -> pa.Table:
    """Append sentences to the texts of documents, each as a paragraph of its own.

    Args:
        table: documents with ``id`` and ``text``.
        sentences: by id of the document.
    """
    ids, texts = table["id"].to_pylist(), table["text"].to_pylist()
    planted = [
        "\n\n".join([*([text] if text else []), *sentences[name]]) if name in sentences else text
        for name, text in zip(ids, texts, strict=True)
    ]
    index = table.schema.get_field_index("text")
    column = pa.array(planted, table.schema.field(index).type)
    return table.set_column(index, table.schema.field(index), column)
