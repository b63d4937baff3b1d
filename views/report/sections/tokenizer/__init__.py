"""How the tokenizer fits the corpus: fertility, training data, unused ids, round trips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.dataset.dataset import Dataset
from views.report.languages import LANGUAGE_NAMES
from views.report.report_run import ReportRun, Section

MAX_ROWS = 15  # languages or sources in a table, the largest


@dataclass(frozen=True)
class FertilityRow:
    """How the text of one language or source is tokenized.

    Attributes:
        name: of the language or source.
        words: words, separated by white space.
        tokens_per_word: fertility.
        bytes_per_token: UTF-8 bytes of text per token.
    """

    name: str
    words: int
    tokens_per_word: float | None
    bytes_per_token: float | None


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer and how it fits the corpus.

    Attributes:
        size: number of ids.
        training: statistics of its training; ``None`` if the recipe provides the tokenizer.
        unused: ids that no training document uses, special tokens aside.
        unused_examples: texts of some of them.
        heldout_documents: documents of the validation split.
        exact_roundtrips: how many of these decode to their original text.
        failed_roundtrips: some of those that do not: id and URL.
        normalized: documents that Unicode normalization changed.
    """

    size: int
    training: Mapping[str, Any] | None
    unused: int
    unused_examples: Sequence[str]
    heldout_documents: int
    exact_roundtrips: int
    failed_roundtrips: Sequence[Mapping[str, Any]]
    normalized: int
    tokens_per_word: float | None
    bytes_per_token: float | None
    languages: Sequence[FertilityRow]
    sources: Sequence[FertilityRow]


def collect(run: ReportRun) -> Vocabulary | None:
    """Return the tokenizer of the run; ``None`` if the run has no token shards."""
    return build_vocabulary(run.dataset("tokens"))


def build_vocabulary(shards: Dataset | None) -> Vocabulary | None:
    """Describe the tokenizer by the stats of the token shards; ``None`` if they lack them."""
    if shards is None or "unused" not in shards.stats:
        return None
    stats = shards.stats
    unused, round_trip = stats["unused"], stats["round_trip"]
    return Vocabulary(
        size=stats["vocab_size"],
        training=stats.get("training"),
        unused=unused["count"],
        unused_examples=[item["text"] for item in unused["examples"]],
        heldout_documents=round_trip["documents"],
        exact_roundtrips=round_trip["exact"],
        failed_roundtrips=round_trip["failing"],
        normalized=stats["normalized"],
        tokens_per_word=stats["tokens_per_word"],
        bytes_per_token=stats["bytes_per_token"],
        languages=_fertility_rows(stats["by_language"], LANGUAGE_NAMES),
        sources=_fertility_rows(stats["by_source"], {}),
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


SECTION = Section("tokenizer", "Tokenizer", collect)
