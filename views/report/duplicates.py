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

from infra.dataset.dataset import BrokenPromise, Dataset, NotCommitted
from infra.runs.run_records import RunRecord
from infra.schemas.duplicate_pairs import EDGES, REJECTED
from infra.store.storage import Storage
from views.duplicates.clusters import Copies, NoClusters, pick
from views.duplicates.members import COPIES, Member, described, load, texts
from views.duplicates.members import Cluster as Members
from views.report.charts import FLAT, Bar, Line, bar_chart, histogram, line_chart

EXAMPLES = 6  # clusters shown with text
PAIRS = 2  # dropped members shown of each
READ = 20_000  # characters of a document that are looked at
MATCHED = 2_000  # words (and spaces) of them that are compared
BEFORE, LINES = 300, 3  # characters and lines of a common beginning that are shown
SHOWN, RUN = 220, 90  # words (and spaces) of an excerpt, and of one run that is equal or differs
CLASSES = ((2, 2), (3, 3), (4, 4), (5, 9), (10, 49), (50, 499), (500, None))
# A run of space, one character of a script without spaces, or a run of others.
WORD = re.compile(
    r"\s+|[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
)
BINS, CURVE = 40, 100  # of the histogram of pairs; points of the S-curve
MOST_FILES = 16  # of pairs that are read for the histogram; each holds those of 4 million documents


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
class Histogram:
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
        facts: the stage's own figures.
        threshold: the similarity that a pair had to reach.
        found: clusters.
        documents: documents in them.
        chart: clusters by their size.
        curve: how likely a pair is nominated.
        compared: the pairs that were compared by similarity.
        clusters: examples, the largest first.
    """

    facts: Mapping[str, Any]
    threshold: float
    found: int
    documents: int
    chart: Markup
    curve: Markup
    compared: Histogram | None
    clusters: Sequence[Cluster]


def duplicates(storage: Storage, record: RunRecord, marks: Dataset) -> Duplicates:
    """Figures of all clusters and examples of the largest."""
    sizes = _sizes(marks)
    return Duplicates(
        marks.facts,
        float(marks.manifest.config.get("threshold", 0.0)),
        sum(sizes.values()),
        sum(size * count for size, count in sizes.items()),
        _chart(sizes),
        _curve(marks),
        _compared(marks),
        _examples(storage, record),
    )


def _sizes(marks: Dataset) -> Counter[int]:
    """How many clusters there are of each size."""
    told = marks.facts.get("cluster_sizes")
    if told is not None:
        return Counter({int(size): int(count) for size, count in told.items()})
    members: Counter[int] = Counter()  # each member counts for 1/size
    for part in marks.parts:
        table = part.table(["cluster", "cluster_size"])
        column = table.filter(pc.is_valid(table["cluster"]))["cluster_size"]
        for item in pc.value_counts(column).to_pylist():
            members[int(item["values"])] += int(item["counts"])
    return Counter({size: round(count / size) for size, count in sorted(members.items())})


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


def _curve(marks: Dataset) -> Markup:
    """How likely a pair shares a band: ``1 - (1 - s**rows)**bands``; empty if they are not told."""
    bands, rows = marks.facts.get("bands"), marks.facts.get("rows")
    if bands is None or rows is None:
        return Markup("")
    points = [(k / CURVE, 1 - (1 - (k / CURVE) ** rows) ** bands) for k in range(CURVE + 1)]
    threshold = marks.manifest.config.get("threshold")
    return line_chart(
        [Line("nominated", points)],
        title="Probability that a pair is nominated, by similarity",
        size=FLAT,
        from_zero=True,
        limits=[] if threshold is None else [float(threshold)],
    )


def _compared(marks: Dataset) -> Histogram | None:
    """How similar the pairs were that were compared."""
    edges = np.linspace(0.0, 1.0, BINS + 1)
    counts = []
    sampled = False
    for prefix in (EDGES, REJECTED):
        files = sorted(name for name in marks.manifest.files if name.startswith(prefix))
        sampled |= len(files) > MOST_FILES
        tally = np.zeros(BINS, np.int64)
        for name in files[:MOST_FILES]:
            with marks.storage.open(marks.manifest.files[name].name) as stream:
                for batch in pq.ParquetFile(stream).iter_batches(columns=["similarity"]):
                    tally += np.histogram(batch["similarity"].to_numpy(), edges)[0]
        counts.append(tally)
    kept, gone = (tally.tolist() for tally in counts)
    if not sum(kept) + sum(gone):
        return None
    threshold = marks.manifest.config.get("threshold")
    chart = histogram(
        edges.tolist(),
        kept,
        gone,
        title="Compared pairs by similarity",
        limits=[] if threshold is None else [float(threshold)],
        size=FLAT,
    )
    return Histogram(chart, sum(kept), sum(gone), sampled)


def _examples(storage: Storage, record: RunRecord) -> list[Cluster]:
    """The largest clusters of which a member was dropped as a duplicate."""
    try:
        copies = Copies.of(storage, record)
    except (NoClusters, NotCommitted, BrokenPromise):
        return []  # data sets that the run was made from are gone
    if copies.corpus is None:
        return []
    found = []
    for cluster in load(copies, pick(copies, 4 * EXAMPLES)):
        lost = [m for m in cluster.members if m.reason in COPIES and m.against is not None]
        # The least similar pairs tell most.
        lost.sort(key=lambda member: (member.similarity or 1.0, member.id))
        if lost:
            found.append((cluster, lost[:PAIRS]))
    # Of equally large clusters the least alike first.
    found.sort(key=lambda one: (-one[0].documents, one[1][0].similarity or 1.0, one[0].name))
    return [
        Cluster(cluster.name, cluster.documents, _pairs(copies, cluster, lost))
        for cluster, lost in found[:EXAMPLES]
    ]


def _pairs(copies: Copies, cluster: Members, lost: Sequence[Member]) -> list[Pair]:
    ends = {member.against for member in lost}
    heads = [member for member in cluster.members if member.place in ends]
    told = {member.place: member for member in described(copies, [*heads, *lost])}
    read = texts(copies, sorted(told), READ)
    out = []
    for member in lost:
        if member.against is None:
            continue
        kept, gone = told[member.against], told[member.place]
        left, right = compare(read[kept.place], read[gone.place])
        similarity = 1.0 if gone.similarity is None else gone.similarity
        reason = str(gone.reason)
        out.append(Pair(gone.id, gone.url, reason, similarity, kept.id, kept.url, left, right))
    return out


def compare(left: str, right: str) -> tuple[Markup, Markup]:
    """The beginnings of two texts with the words that differ marked; all of it escaped.

    A long common beginning is skipped and long runs are cut in the middle, so that the first
    difference and what follows a long insertion are seen.
    """
    first = next((at for at, (a, b) in enumerate(zip_longest(left, right)) if a != b), 0)
    start = 0
    if first < max(len(left), len(right)):
        start = left.rfind(" ", 0, max(0, first - BEFORE)) + 1
        # Pages of short lines: the box is low, and what differs has to be seen in it.
        start += sum(map(len, left[start:first].splitlines(keepends=True)[:-LINES]))
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
