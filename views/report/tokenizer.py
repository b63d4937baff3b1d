"""What the tokenizer makes of the corpus: fertility, what it learned from, what of it is unused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.dataset.dataset import Dataset
from views.report.corpus import NAMES

MOST_ROWS = 15  # languages or sources of a table, the largest


@dataclass(frozen=True)
class Rate:
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
        unused: ids that no training document uses, special tokens aside; some ``examples`` of them.
        held: held-out documents, of which ``exact`` came back as they were.
        failing: some of those that did not: id and URL.
        normalised: documents that Unicode normalisation changed.
    """

    size: int
    training: Mapping[str, Any] | None
    unused: int
    unused_share: float
    examples: Sequence[str]
    held: int
    exact: int
    failing: Sequence[Mapping[str, Any]]
    normalised: int
    tokens_per_word: float | None
    bytes_per_token: float | None
    languages: Sequence[Rate]
    sources: Sequence[Rate]


def vocabulary(shards: Dataset | None) -> Vocabulary | None:
    """The tokenizer's section, from the facts of the token shards; ``None`` if they lack them."""
    if shards is None or "unused" not in shards.facts:
        return None
    facts = shards.facts
    unused, trip = facts["unused"], facts["round_trip"]
    return Vocabulary(
        facts["vocab_size"],
        facts.get("training"),
        unused["count"],
        unused["share"],
        [item["text"] for item in unused["examples"]],
        trip["documents"],
        trip["exact"],
        trip["failing"],
        facts["normalised"],
        facts["tokens_per_word"],
        facts["bytes_per_token"],
        _rates(facts["by_language"], NAMES),
        _rates(facts["by_source"], {}),
    )


def _rates(groups: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> list[Rate]:
    largest = sorted(groups.items(), key=lambda item: (-item[1]["bytes"], item[0]))[:MOST_ROWS]
    return [
        Rate(
            names.get(key, key), group["words"], group["tokens_per_word"], group["bytes_per_token"]
        )
        for key, group in largest
    ]
