"""What the corpus is made of: languages, sources, tokens."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from infra.dataset.dataset import Dataset

LANGUAGE_NAMES = {
    "ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "ca": "Catalan", "cs": "Czech",
    "da": "Danish", "de": "German", "el": "Greek", "en": "English", "eo": "Esperanto",
    "es": "Spanish", "et": "Estonian", "fa": "Persian", "fi": "Finnish", "fr": "French",
    "he": "Hebrew", "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian", "id": "Indonesian",
    "is": "Icelandic", "it": "Italian", "ja": "Japanese", "ko": "Korean", "la": "Latin",
    "lt": "Lithuanian", "lv": "Latvian", "ms": "Malay", "nl": "Dutch", "no": "Norwegian",
    "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sk": "Slovak",
    "sl": "Slovenian", "sr": "Serbian", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil",
    "te": "Telugu", "th": "Thai", "tl": "Tagalog", "tr": "Turkish", "uk": "Ukrainian",
    "ur": "Urdu", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip
MAX_ROWS = 15  # languages or sources of a table; the rest is summed


@dataclass(frozen=True)
class Group:
    """The documents of one language or source.

    Attributes:
        key: its code or name.
        name: as a reader knows it.
        weight: what shares are taken of: bytes where the corpus was tokenized, else words.
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
        """What shares are taken of."""
        return self.bytes if self.bytes is not None else self.words or 0


@dataclass(frozen=True)
class CorpusMix:
    """The corpus by language and by source.

    Attributes:
        unit: what shares are taken of, ``bytes`` or ``words``.
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


def compute_mix(corpus: Dataset | None, shards: Dataset | None) -> CorpusMix | None:
    """The corpus by language and source: of its token shards if there are, else of its table."""
    if shards is not None and "by_language" in shards.stats:
        facts = shards.stats
        return CorpusMix(
            "bytes",
            _top_rows(
                [
                    _group_from_stats(key, group, LANGUAGE_NAMES)
                    for key, group in facts["by_language"].items()
                ]
            ),
            _top_rows(
                [_group_from_stats(key, group, {}) for key, group in facts["by_source"].items()]
            ),
            facts.get("vocab_size"),
            facts.get("documents"),
            facts.get("tokens"),
            facts.get("bytes_per_token"),
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


def _group_from_stats(key: str, group: Mapping[str, Any], names: Mapping[str, str]) -> Group:
    return Group(
        key,
        names.get(key, key),
        int(group["documents"]),
        None,
        int(group["tokens"]),
        int(group["bytes"]),
        group.get("bytes_per_token"),
    )


def _count_groups(table: pa.Table, column: str, names: Mapping[str, str]) -> list[Group]:
    rows = table.group_by(column).aggregate([("words", "count"), ("words", "sum")]).to_pylist()
    return _top_rows(
        Group(
            key := str(row[column] or "unknown"),
            names.get(key, key),
            row["words_count"],
            int(row["words_sum"] or 0),
            None,
            None,
            None,
        )
        for row in rows
    )


def _top_rows(groups: Iterable[Group]) -> list[Group]:
    """Largest first; those beyond the last row summed up."""
    ordered = sorted(groups, key=lambda group: (-group.weight, group.key))
    if len(ordered) <= MAX_ROWS:
        return ordered
    rest = ordered[MAX_ROWS - 1 :]

    def total(values: Iterable[int | None]) -> int | None:
        known = [value for value in values if value is not None]
        return sum(known) if known else None

    documents = sum(group.documents for group in rest)
    tokens, size = total(g.tokens for g in rest), total(g.bytes for g in rest)
    summed = Group(
        "",
        f"{len(rest)} others",
        documents,
        total(g.words for g in rest),
        tokens,
        size,
        size / (tokens - documents) if size and tokens and tokens > documents else None,
    )
    return [*ordered[: MAX_ROWS - 1], summed]
