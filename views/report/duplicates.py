"""Duplicate clusters: how large they are, and examples with survivor and dropped side by side."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from markupsafe import Markup, escape

from infra.dataset.dataset import Dataset, DatasetNotFoundError, IntegrityError
from infra.runs.run_records import RunRecord
from infra.schemas.duplicate_pairs import REJECTED_PREFIX, VERIFIED_PREFIX
from infra.store.storage import Storage
from views.duplicates.clusters import ClusterNotFoundError, DuplicateData, select_clusters
from views.duplicates.members import (
    DUPLICATE_REASONS,
    Member,
    load_clusters,
    load_member_texts,
    with_metadata,
)
from views.duplicates.members import Cluster as Members
from views.report.charts import FLAT, Bar, Line, bar_chart, histogram, line_chart

MAX_CLUSTERS = 6  # clusters shown with text
PAIRS_PER_CLUSTER = 2  # dropped members shown of each
MAX_CHARS = 20_000  # characters of a document that are looked at
MAX_COMPARED_WORDS = 2_000  # words (and spaces) of them that are compared
CONTEXT_CHARS, CONTEXT_LINES = 300, 3  # characters and lines of a common beginning that are shown
EXCERPT_WORDS, MAX_RUN_WORDS = (
    220,
    90,
)  # words (and spaces) of an excerpt, and of one run that is equal or differs
SIZE_BUCKETS = ((2, 2), (3, 3), (4, 4), (5, 9), (10, 49), (50, 499), (500, None))
# A run of space, one character of a script without spaces, or a run of others.
WORD = re.compile(
    r"\s+|[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
)
BINS, CURVE_POINTS = 40, 100  # of the histogram of pairs; points of the S-curve
MAX_FILES = 16  # of pairs that are read for the histogram; each holds those of 4 million documents


@dataclass(frozen=True)
class PairExample:
    """A dropped document beside the one that stayed, with what differs marked."""

    id: str
    url: str | None
    reason: str
    similarity: float
    kept_id: str
    kept_url: str | None
    left: Markup
    right: Markup


@dataclass(frozen=True)
class ClusterExample:
    """One of the largest clusters."""

    id: str
    documents: int
    pairs: Sequence[PairExample]


@dataclass(frozen=True)
class SimilarityHistogram:
    """Pairs by similarity, those that hold and those that do not.

    Attributes:
        chart: the picture.
        verified: pairs that hold.
        rejected: pairs that do not.
        sampled: whether only the first files of pairs were read.
    """

    chart: Markup
    verified: int
    rejected: int
    sampled: bool


@dataclass(frozen=True)
class Duplicates:
    """What deduplication found.

    Attributes:
        stats: the stage's own figures.
        threshold: the similarity that a pair had to reach.
        n_clusters: clusters.
        documents: documents in them.
        size_chart: clusters by their size.
        lsh_curve: how likely a pair is nominated.
        similarity_histogram: the pairs that were compared by similarity.
        examples: examples, the largest first.
    """

    stats: Mapping[str, Any]
    threshold: float
    n_clusters: int
    documents: int
    size_chart: Markup
    lsh_curve: Markup
    similarity_histogram: SimilarityHistogram | None
    examples: Sequence[ClusterExample]


def build_duplicates(storage: Storage, record: RunRecord, duplicate_labels: Dataset) -> Duplicates:
    """Figures of all clusters and examples of the largest."""
    sizes = _cluster_sizes(duplicate_labels)
    return Duplicates(
        duplicate_labels.stats,
        float(duplicate_labels.manifest.config.get("threshold", 0.0)),
        sum(sizes.values()),
        sum(size * count for size, count in sizes.items()),
        _size_chart(sizes),
        _lsh_curve(duplicate_labels),
        _similarity_histogram(duplicate_labels),
        _load_examples(storage, record),
    )


def _cluster_sizes(duplicate_labels: Dataset) -> Counter[int]:
    """How many clusters there are of each size."""
    told = duplicate_labels.stats.get("cluster_sizes")
    if told is not None:
        return Counter({int(size): int(count) for size, count in told.items()})
    members: Counter[int] = Counter()  # each member counts for 1/size
    for part in duplicate_labels.parts:
        table = part.table(["cluster", "cluster_size"])
        column = table.filter(pc.is_valid(table["cluster"]))["cluster_size"]
        for item in pc.value_counts(column).to_pylist():
            members[int(item["values"])] += int(item["counts"])
    return Counter({size: round(count / size) for size, count in sorted(members.items())})


def _size_chart(sizes: Mapping[int, int]) -> Markup:
    bars = []
    for low, high in SIZE_BUCKETS:
        count = sum(
            n for size, n in sizes.items() if low <= size and (high is None or size <= high)
        )
        label = str(low) if low == high else f"{low}+" if high is None else f"{low}–{high}"
        bars.append(Bar(label, count))
    while len(bars) > 3 and bars[-1].count == 0:
        bars.pop()
    return bar_chart(bars, title="Clusters by number of members")


def _lsh_curve(duplicate_labels: Dataset) -> Markup:
    """How likely a pair shares a band: ``1 - (1 - s**rows)**bands``; empty if they are not told."""
    bands, rows = duplicate_labels.stats.get("bands"), duplicate_labels.stats.get("rows")
    if bands is None or rows is None:
        return Markup("")
    points = [
        (k / CURVE_POINTS, 1 - (1 - (k / CURVE_POINTS) ** rows) ** bands)
        for k in range(CURVE_POINTS + 1)
    ]
    threshold = duplicate_labels.manifest.config.get("threshold")
    return line_chart(
        [Line("nominated", points)],
        title="Probability that a pair is nominated, by similarity",
        size=FLAT,
        from_zero=True,
        thresholds=[] if threshold is None else [float(threshold)],
    )


def _similarity_histogram(duplicate_labels: Dataset) -> SimilarityHistogram | None:
    """How similar the pairs were that were compared."""
    edges = np.linspace(0.0, 1.0, BINS + 1)
    counts = []
    sampled = False
    for prefix in (VERIFIED_PREFIX, REJECTED_PREFIX):
        files = sorted(name for name in duplicate_labels.manifest.files if name.startswith(prefix))
        sampled |= len(files) > MAX_FILES
        tally = np.zeros(BINS, np.int64)
        for name in files[:MAX_FILES]:
            with duplicate_labels.storage.open(
                duplicate_labels.manifest.files[name].name
            ) as stream:
                for batch in pq.ParquetFile(stream).iter_batches(columns=["similarity"]):
                    tally += np.histogram(batch["similarity"].to_numpy(), edges)[0]
        counts.append(tally)
    kept, gone = (tally.tolist() for tally in counts)
    if not sum(kept) + sum(gone):
        return None
    threshold = duplicate_labels.manifest.config.get("threshold")
    chart = histogram(
        edges.tolist(),
        kept,
        gone,
        title="Compared pairs by similarity",
        thresholds=[] if threshold is None else [float(threshold)],
        size=FLAT,
    )
    return SimilarityHistogram(chart, sum(kept), sum(gone), sampled)


def _load_examples(storage: Storage, record: RunRecord) -> list[ClusterExample]:
    """The largest clusters of which a member was dropped as a duplicate."""
    try:
        copies = DuplicateData.from_run(storage, record)
    except (ClusterNotFoundError, DatasetNotFoundError, IntegrityError):
        return []  # data sets that the run was made from are gone
    if copies.corpus is None:
        return []
    found = []
    for cluster in load_clusters(copies, select_clusters(copies, 4 * MAX_CLUSTERS)):
        lost = [
            m
            for m in cluster.members
            if m.reason in DUPLICATE_REASONS and m.compared_to is not None
        ]
        # The least similar pairs tell most.
        lost.sort(key=lambda member: (member.similarity or 1.0, member.id))
        if lost:
            found.append((cluster, lost[:PAIRS_PER_CLUSTER]))
    # Of equally large clusters the least alike first.
    found.sort(key=lambda one: (-one[0].documents, one[1][0].similarity or 1.0, one[0].id))
    return [
        ClusterExample(cluster.id, cluster.documents, _pair_examples(copies, cluster, lost))
        for cluster, lost in found[:MAX_CLUSTERS]
    ]


def _pair_examples(
    data: DuplicateData, cluster: Members, dropped: Sequence[Member]
) -> list[PairExample]:
    ends = {member.compared_to for member in dropped}
    heads = [member for member in cluster.members if member.row_ref in ends]
    told = {member.row_ref: member for member in with_metadata(data, [*heads, *dropped])}
    read = load_member_texts(data, sorted(told), MAX_CHARS)
    out = []
    for member in dropped:
        if member.compared_to is None:
            continue
        kept, gone = told[member.compared_to], told[member.row_ref]
        left, right = highlight_differences(read[kept.row_ref], read[gone.row_ref])
        similarity = 1.0 if gone.similarity is None else gone.similarity
        reason = str(gone.reason)
        out.append(
            PairExample(gone.id, gone.url, reason, similarity, kept.id, kept.url, left, right)
        )
    return out


def highlight_differences(left: str, right: str) -> tuple[Markup, Markup]:
    """The beginnings of two texts with the words that differ marked; all of it escaped.

    A long common beginning is skipped and long runs are cut in the middle, so that the first
    difference and what follows a long insertion are seen.
    """
    first = next((at for at, (a, b) in enumerate(zip_longest(left, right)) if a != b), 0)
    start = 0
    if first < max(len(left), len(right)):
        start = left.rfind(" ", 0, max(0, first - CONTEXT_CHARS)) + 1
        # Pages of short lines: the box is low, and what differs has to be seen in it.
        start += sum(map(len, left[start:first].splitlines(keepends=True)[:-CONTEXT_LINES]))
    left, right = left[start:], right[start:]
    one, other = (WORD.findall(text)[:MAX_COMPARED_WORDS] for text in (left, right))
    sides: tuple[list[str], list[str]] = (["… "], ["… "]) if start else ([], [])
    room = [EXCERPT_WORDS, EXCERPT_WORDS]
    for kind, a0, a1, b0, b1 in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        for side, words in ((0, one[a0:a1]), (1, other[b0:b1])):
            if not words or room[side] <= 0:
                continue
            text = str(escape("".join(_truncate_run(words, room[side], MAX_RUN_WORDS))))
            room[side] -= min(len(words), MAX_RUN_WORDS)
            equal = kind == "equal" or not text.strip()
            sides[side].append(text if equal else f"<mark>{text}</mark>")
    for side, words, text in ((0, one, left), (1, other, right)):
        if room[side] <= 0 or len(text) > sum(map(len, words)):
            sides[side].append(" …")
    # Every word was escaped above.
    return Markup("".join(sides[0])), Markup("".join(sides[1]))  # noqa: S704


def _truncate_run(words: list[str], budget: int, max_words: int) -> list[str]:
    """At most so many of a run's words: its beginning and, unless there is no room, its end."""
    if len(words) <= min(budget, max_words):
        return words
    if budget < max_words:
        return words[:budget]
    return [*words[: max_words // 2], " … ", *words[-(max_words // 2) :]]
