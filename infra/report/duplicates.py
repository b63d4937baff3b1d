"""Duplicate clusters: how large they are, and examples with survivor and dropped side by side."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from markupsafe import Markup, escape

from infra.dataset import VERDICTS, Dataset, PartRef
from infra.excerpts import Excerpt, find_texts, parse_evidence
from infra.records import RunRecord
from infra.report.charts import Bar, bar_chart
from infra.storage import Storage

EXAMPLES = 6  # clusters shown with text
PAIRS = 2  # dropped members shown of each
READ = 20_000  # characters of a document that are looked at
MATCHED = 2_000  # words (and spaces) of them that are compared
BEFORE = 300  # characters of a common beginning that are shown
SHOWN, RUN = 220, 90  # words (and spaces) of an excerpt, and of one run that is equal or differs
CLASSES = ((2, 2), (3, 3), (4, 4), (5, 9), (10, 49), (50, 499), (500, None))
# A run of space, one character of a script without spaces, or a run of others.
WORD = re.compile(
    r"\s+|[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
)
DUPLICATES = ("near_duplicate", "exact_duplicate")


@dataclass(frozen=True)
class Pair:
    """A dropped document beside the one that stayed, with what differs marked."""

    id: str
    url: str | None
    reason: str
    similarity: float
    survivor: str
    survivor_url: str | None
    left: Markup
    right: Markup


@dataclass(frozen=True)
class Cluster:
    """One of the largest clusters."""

    name: str
    documents: int
    pairs: Sequence[Pair]


@dataclass(frozen=True)
class Duplicates:
    """What deduplication found.

    Attributes:
        facts: the stage's own figures.
        chart: clusters by their size.
        clusters: examples, the largest first.
    """

    facts: Mapping[str, Any]
    found: int
    documents: int
    chart: Markup
    clusters: Sequence[Cluster]


def duplicates(
    storage: Storage, record: RunRecord, marks: Dataset, corpus: Dataset | None
) -> Duplicates:
    """Figures of all clusters and examples of the largest."""
    tables = [part.table(["cluster", "cluster_size"]) for part in marks.parts]
    sizes = _sizes(tables)
    names = _largest(tables)
    examples = _examples(storage, record, marks, corpus, names) if corpus is not None else []
    return Duplicates(
        marks.facts,
        sum(sizes.values()),
        sum(size * count for size, count in sizes.items()),
        _chart(sizes),
        examples,
    )


def _sizes(tables: Sequence[pa.Table]) -> Counter[int]:
    """How many clusters there are of each size: each of its members counts for 1/size."""
    members: Counter[int] = Counter()
    for table in tables:
        column = table.filter(pc.is_valid(table["cluster"]))["cluster_size"]
        for item in pc.value_counts(column).to_pylist():
            members[int(item["values"])] += int(item["counts"])
    return Counter({size: round(count / size) for size, count in sorted(members.items())})


def _largest(tables: Sequence[pa.Table]) -> list[str]:
    best: dict[str, int] = {}
    for table in tables:
        rows = table.filter(pc.is_valid(table["cluster"]))
        if rows.num_rows:
            rows = rows.group_by("cluster").aggregate([("cluster_size", "max")])
            rows = rows.sort_by([("cluster_size_max", "descending"), ("cluster", "ascending")])
            best |= {
                row["cluster"]: row["cluster_size_max"]
                for row in rows.slice(0, 4 * EXAMPLES).to_pylist()
            }
    return sorted(best, key=lambda name: (-best[name], name))[: 4 * EXAMPLES]


def _chart(sizes: Mapping[int, int]) -> Markup:
    bars = []
    for low, high in CLASSES:
        count = sum(
            n for size, n in sizes.items() if low <= size and (high is None or size <= high)
        )
        label = str(low) if low == high else f"{low}+" if high is None else f"{low}–{high}"
        bars.append(Bar(label, count))
    while len(bars) > 3 and bars[-1].count == 0:
        bars.pop()
    return bar_chart(bars, title="Clusters by number of members")


def _examples(
    storage: Storage, record: RunRecord, marks: Dataset, corpus: Dataset, names: Sequence[str]
) -> list[Cluster]:
    """The largest clusters of which a member was dropped as a duplicate."""
    members: dict[str, list[str]] = {name: [] for name in names}
    sizes: dict[str, int] = {}
    said: dict[str, dict[str, Any]] = {}
    aligned = len(marks.parts) == len(corpus.parts)
    wanted = pa.array(list(names), pa.string())
    for place, part in enumerate(marks.parts):
        table = part.table(["id", "cluster", "cluster_size"])
        table = table.filter(pc.is_in(table["cluster"], value_set=wanted))
        for row in table.to_pylist():
            members[row["cluster"]].append(row["id"])
            sizes[row["cluster"]] = row["cluster_size"]
        if table.num_rows:
            looked = [corpus.parts[place]] if aligned else corpus.parts
            for other in looked:
                said |= _dropped(other, table["id"].to_pylist())
    chosen: list[tuple[str, list[dict[str, Any]]]] = []
    for name in names:
        # The least similar pairs tell most.
        lost = sorted(
            (said[item] for item in dict.fromkeys(members[name]) if item in said),
            key=lambda row: (row["evidence"].get("similarity", 1.0), row["id"]),
        )
        if lost:
            chosen.append((name, lost[:PAIRS]))
    # Of equally large clusters the least alike first.
    chosen.sort(
        key=lambda one: (-sizes[one[0]], one[1][0]["evidence"].get("similarity", 1.0), one[0])
    )
    chosen = chosen[:EXAMPLES]
    texts = find_texts(storage, record, _ids(chosen), READ)
    return [
        Cluster(name, sizes[name], [_pair(row, texts) for row in rows]) for name, rows in chosen
    ]


def _ids(chosen: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> set[str]:
    rows = [row for _, rows in chosen for row in rows]
    return {row["id"] for row in rows} | {str(row["evidence"].get("survivor")) for row in rows}


def _dropped(part: PartRef, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Ledger rows of these documents that were dropped as duplicates, by id."""
    with part.storage.open(part.file(VERDICTS)) as stream:
        table = pq.read_table(stream, columns=["id", "url", "reason", "evidence"])
    hit = pc.and_(
        pc.is_in(table["id"], value_set=pa.array(ids, pa.string())),
        pc.is_in(table["reason"], value_set=pa.array(DUPLICATES, pa.string())),
    )
    return {
        row["id"]: {**row, "evidence": parse_evidence(row["evidence"])}
        for row in table.filter(hit).to_pylist()
    }


def _pair(row: Mapping[str, Any], texts: Mapping[str, Excerpt]) -> Pair:
    evidence = row["evidence"]
    survivor = str(evidence.get("survivor"))
    kept, gone = texts.get(survivor), texts.get(row["id"])
    left, right = compare(kept.text if kept else "", gone.text if gone else "")
    return Pair(
        row["id"],
        row["url"] or (gone.url if gone else None),
        row["reason"],
        float(evidence.get("similarity", 1.0)),
        survivor,
        evidence.get("url") or (kept.url if kept else None),
        left,
        right,
    )


def compare(left: str, right: str) -> tuple[Markup, Markup]:
    """The beginnings of two texts with the words that differ marked; all of it escaped.

    A long common beginning is skipped and long runs are cut in the middle, so that the first
    difference and what follows a long insertion are seen.
    """
    first = next((at for at, (a, b) in enumerate(zip_longest(left, right)) if a != b), 0)
    start = (
        left.rfind(" ", 0, max(0, first - BEFORE)) + 1 if first < max(len(left), len(right)) else 0
    )
    left, right = left[start:], right[start:]
    one, other = (WORD.findall(text)[:MATCHED] for text in (left, right))
    sides: tuple[list[str], list[str]] = (["… "], ["… "]) if start else ([], [])
    room = [SHOWN, SHOWN]
    for kind, a0, a1, b0, b1 in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        for side, words in ((0, one[a0:a1]), (1, other[b0:b1])):
            if not words or room[side] <= 0:
                continue
            text = str(escape("".join(_cut(words, room[side], RUN))))
            room[side] -= min(len(words), RUN)
            equal = kind == "equal" or not text.strip()
            sides[side].append(text if equal else f"<mark>{text}</mark>")
    for side, words, text in ((0, one, left), (1, other, right)):
        if room[side] <= 0 or len(text) > sum(map(len, words)):
            sides[side].append(" …")
    # Every word was escaped above.
    return Markup("".join(sides[0])), Markup("".join(sides[1]))  # noqa: S704


def _cut(words: list[str], room: int, longest: int) -> list[str]:
    """At most so many of a run's words: its beginning and, unless there is no room, its end."""
    if len(words) <= min(room, longest):
        return words
    if room < longest:
        return words[:room]
    return [*words[: longest // 2], " … ", *words[-(longest // 2) :]]
