"""How the tokenizer fits the corpus: fertility, training data, unused ids, round trips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from views.report.groups import LANGUAGE_NAMES, group_rows
from views.report.report_run import ReportRun, Section


@dataclass(frozen=True)
class TokenizerFit:
    """The stats of the token shards (``tasks.tokenize.stats``), and the rows of their tables."""

    stats: Mapping[str, Any]
    languages: Sequence[Mapping[str, Any]]
    sources: Sequence[Mapping[str, Any]]


def collect(run: ReportRun) -> TokenizerFit | None:
    """Return how the run's tokenizer fits; ``None`` if the run has no token shards."""
    shards = run.dataset("tokens")
    return describe_fit(shards.stats) if shards is not None else None


def describe_fit(stats: Mapping[str, Any]) -> TokenizerFit:
    """Add the rows of the tables to the stats of token shards."""
    return TokenizerFit(
        stats,
        group_rows(stats["by_language"], "bytes", LANGUAGE_NAMES),
        group_rows(stats["by_source"], "bytes", {}),
    )


SECTION = Section("tokenizer", "Tokenizer", collect)
