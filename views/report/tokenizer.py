"""What the tokenizer makes of the corpus: fertility, what it learned from, what of it is unused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.dataset.dataset import Dataset
from views.report.corpus import LANGUAGE_NAMES

MAX_ROWS = 15  # languages or sources of a table, the largest


@dataclass(frozen=True)
class FertilityRow:
    """How the text of one language or source is cut.

    Attributes:
        tokens_per_word: fertility; words stand between white space.
    """

    name: str
    words: int
    tokens_per_word: float | None
    bytes_per_token: float | None


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer and its fit.

    Attributes:
        size: ids.
        training: what it was trained on; ``None`` if it was given.
        unused: ids that no training document uses, special tokens aside; some ``unused_examples`` of them.
        heldout_documents: held-out documents, of which ``exact_roundtrips`` came back as they were.
        failed_roundtrips: some of those that did not: id and URL.
        normalized: documents that Unicode normalisation changed.
    """

    size: int
    training: Mapping[str, Any] | None
    unused: int
    unused_fraction: float
    unused_examples: Sequence[str]
    heldout_documents: int
    exact_roundtrips: int
    failed_roundtrips: Sequence[Mapping[str, Any]]
    normalized: int
    tokens_per_word: float | None
    bytes_per_token: float | None
    languages: Sequence[FertilityRow]
    sources: Sequence[FertilityRow]


def build_vocabulary(shards: Dataset | None) -> Vocabulary | None:
    """The tokenizer's section, from the facts of the token shards; ``None`` if they lack them."""
    if shards is None or "unused" not in shards.stats:
        return None
    facts = shards.stats
    unused, trip = facts["unused"], facts["round_trip"]
    return Vocabulary(
        facts["vocab_size"],
        facts.get("training"),
        unused["count"],
        unused["fraction"],
        [item["text"] for item in unused["examples"]],
        trip["documents"],
        trip["exact"],
        trip["failing"],
        facts["normalized"],
        facts["tokens_per_word"],
        facts["bytes_per_token"],
        _fertility_rows(facts["by_language"], LANGUAGE_NAMES),
        _fertility_rows(facts["by_source"], {}),
    )


def _fertility_rows(
    groups: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]
) -> list[FertilityRow]:
    largest = sorted(groups.items(), key=lambda item: (-item[1]["bytes"], item[0]))[:MAX_ROWS]
    return [
        FertilityRow(
            names.get(key, key), group["words"], group["tokens_per_word"], group["bytes_per_token"]
        )
        for key, group in largest
    ]
