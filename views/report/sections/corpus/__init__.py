"""What the corpus consists of: languages, sources, tokens."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from infra.dataset.dataset import Dataset
from views.report.formatting import format_float, format_int, format_si
from views.report.languages import LANGUAGE_NAMES
from views.report.report_run import ReportRun, Section, Tile

MAX_ROWS = 15  # languages or sources in a table; the rest is summed


@dataclass(frozen=True)
class Group:
    """The documents of one language or source.

    Attributes:
        key: its code or name.
        name: as shown to a reader.
    """

    key: str
    name: str
    documents: int
    words: int | None
    tokens: int | None
    bytes: int | None
    bytes_per_token: float | None

    @property
    def weight(self) -> int:
        """What fractions are computed of: bytes if the corpus was tokenized, else words."""
        return self.bytes if self.bytes is not None else self.words or 0


@dataclass(frozen=True)
class CorpusMix:
    """The corpus by language and by source.

    Attributes:
        unit: what fractions are computed of, ``bytes`` or ``words``.
        tokens: by split, if the corpus was tokenized.
    """

    unit: str
    languages: Sequence[Group]
    sources: Sequence[Group]
    vocab_size: int | None = None
    documents: Mapping[str, int] | None = None
    tokens: Mapping[str, int] | None = None
    bytes_per_token: float | None = None

    @property
    def total_tokens(self) -> int | None:
        """Tokens of all splits."""
        return sum(self.tokens.values()) if self.tokens is not None else None


def collect(run: ReportRun) -> CorpusMix | None:
    """Return the mix of the run's corpus; ``None`` if it selected none."""
    return compute_mix(run.dataset("corpus"), run.dataset("tokens"))


def compute_mix(corpus: Dataset | None, shards: Dataset | None) -> CorpusMix | None:
    """Compute the mix from the token shards' stats if they exist, else from the corpus's table."""
    if shards is not None and "by_language" in shards.stats:
        stats = shards.stats
        return CorpusMix(
            "bytes",
            _groups_from_stats(stats["by_language"], LANGUAGE_NAMES),
            _groups_from_stats(stats["by_source"], {}),
            stats.get("vocab_size"),
            stats.get("documents"),
            stats.get("tokens"),
            stats.get("bytes_per_token"),
        )
    if corpus is None:
        return None
    tables = [part.table(["language", "source", "words"]) for part in corpus.parts]
    if not tables:
        return CorpusMix("words", [], [])
    table = pa.concat_tables(tables)
    return CorpusMix(
        "words",
        _count_groups(table, "language", LANGUAGE_NAMES),
        _count_groups(table, "source", {}),
    )


def _groups_from_stats(
    groups: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]
) -> list[Group]:
    return _top_rows(
        Group(
            key=key,
            name=names.get(key, key),
            documents=int(group["documents"]),
            words=None,
            tokens=int(group["tokens"]),
            bytes=int(group["bytes"]),
            bytes_per_token=group.get("bytes_per_token"),
        )
        for key, group in groups.items()
    )


def _count_groups(table: pa.Table, column: str, names: Mapping[str, str]) -> list[Group]:
    rows = table.group_by(column).aggregate([("words", "count"), ("words", "sum")]).to_pylist()
    return _top_rows(
        Group(
            key=(key := str(row[column] or "unknown")),
            name=names.get(key, key),
            documents=row["words_count"],
            words=int(row["words_sum"] or 0),
            tokens=None,
            bytes=None,
            bytes_per_token=None,
        )
        for row in rows
    )


def _top_rows(groups: Iterable[Group]) -> list[Group]:
    """Sort groups by weight, largest first; sum those beyond the last row."""
    ordered = sorted(groups, key=lambda group: (-group.weight, group.key))
    if len(ordered) <= MAX_ROWS:
        return ordered
    rest = ordered[MAX_ROWS - 1 :]
    documents = sum(group.documents for group in rest)
    tokens, size = _sum_known(g.tokens for g in rest), _sum_known(g.bytes for g in rest)
    summed = Group(
        key="",
        name=f"{len(rest)} others",
        documents=documents,
        words=_sum_known(g.words for g in rest),
        tokens=tokens,
        bytes=size,
        # Every document has an end-of-text token, which stands for no bytes.
        bytes_per_token=size / (tokens - documents)
        if size and tokens and tokens > documents
        else None,
    )
    return [*ordered[: MAX_ROWS - 1], summed]


def _sum_known(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def tiles(run: ReportRun, data: CorpusMix) -> list[Tile]:
    """Return the tokens of a tokenized corpus."""
    del run
    if data.total_tokens is None:
        return []
    note = (
        f"{format_float(data.bytes_per_token, 2)} bytes each, "
        f"vocabulary {format_int(data.vocab_size or 0)}"
    )
    return [Tile("Tokens", format_si(data.total_tokens), note)]


SECTION = Section("corpus", "Corpus", collect, tiles)
