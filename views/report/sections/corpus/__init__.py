"""What the corpus consists of: languages, sources, tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from infra.dataset.dataset import Dataset
from views.report.formatting import format_float, format_int, format_si
from views.report.groups import LANGUAGE_NAMES, group_rows
from views.report.report_run import ReportRun, Section, Tile


@dataclass(frozen=True)
class CorpusMix:
    """The corpus by language and by source.

    Attributes:
        unit: what fractions are computed of: ``bytes`` if the corpus was tokenized, else ``words``.
        stats: of the token shards, if the corpus was tokenized.
    """

    unit: str
    languages: Sequence[Mapping[str, Any]]
    sources: Sequence[Mapping[str, Any]]
    stats: Mapping[str, Any] | None

    @property
    def total_tokens(self) -> int:
        """Tokens of all splits."""
        return sum(self.stats["tokens"].values()) if self.stats is not None else 0


def collect(run: ReportRun) -> CorpusMix | None:
    """Return the mix of the run's corpus; ``None`` if it selected none."""
    corpus, shards = run.dataset("corpus"), run.dataset("tokens")
    if shards is not None:
        unit, stats = "bytes", shards.stats
        languages, sources = stats["by_language"], stats["by_source"]
    elif corpus is not None:
        unit, stats = "words", None
        languages, sources = (_count_groups(corpus, name) for name in ("language", "source"))
    else:
        return None
    return CorpusMix(
        unit, group_rows(languages, unit, LANGUAGE_NAMES), group_rows(sources, unit, {}), stats
    )


def _count_groups(corpus: Dataset, column: str) -> dict[str, dict[str, int]]:
    tables = [part.table([column, "words"]) for part in corpus.parts]
    if not tables:
        return {}
    groups = pa.concat_tables(tables).group_by(column)
    rows = groups.aggregate([("words", "count"), ("words", "sum")]).to_pylist()
    return {
        str(row[column] or "unknown"): {"documents": row["words_count"], "words": row["words_sum"]}
        for row in rows
    }


def tiles(run: ReportRun, data: CorpusMix) -> list[Tile]:
    """Return the tokens of a tokenized corpus."""
    del run
    if data.stats is None:
        return []
    bytes_per_token = format_float(data.stats["bytes_per_token"], 2)
    note = f"{bytes_per_token} bytes each, vocabulary {format_int(data.stats['vocab_size'])}"
    return [Tile("Tokens", format_si(data.total_tokens), note)]


SECTION = Section("corpus", "Corpus", collect, tiles)
