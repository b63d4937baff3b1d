"""Duplicate clusters: their sizes, how pairs were found, and examples with their differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from markupsafe import Markup

from infra.dataset.dataset import Dataset
from infra.schemas.duplicate_pairs import REJECTED_PREFIX, VERIFIED_PREFIX
from views.report.charts import FLAT, Line, bar_chart, histogram, line_chart
from views.report.report_run import ReportRun, Section
from views.report.sections.duplicates.examples import ClusterExample, load_examples

SIZE_BUCKETS = ((2, 2), (3, 3), (4, 4), (5, 9), (10, 49), (50, 499), (500, None))
BINS, CURVE_POINTS = 40, 100  # of the histogram of pairs; points of the S-curve
MAX_FILES = 16  # of pairs that are read for the histogram; one holds those of 4 million documents

# Statistics of the stage that are listed, where it has them.
STAT_LABELS = {
    "exact_groups": "groups of equal texts",
    "exact_duplicates": "duplicates in them",
    "candidates": "candidate pairs of other documents: they share an LSH band",
    "verified": "of these, similar enough",
    "rejected": "of these, not similar enough",
    "intra_cluster_pairs": "further pairs compared within clusters",
    "intra_cluster_verified": "of these, similar enough",
    "uncompared_intra_cluster_pairs": "pairs within clusters that were not compared",
    "largest_bucket": "documents in the largest LSH bucket",
    "oversized_buckets": "oversized buckets, of which only some pairs were compared",
    "uncompared_bucket_pairs": "pairs in them that were not compared",
    "short_documents": "texts too short to be near-duplicates",
}


@dataclass(frozen=True)
class SimilarityHistogram:
    """Compared pairs by similarity.

    Attributes:
        verified: number of pairs that reached the threshold.
        rejected: number of pairs that did not.
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
        threshold: the similarity that a pair has to reach.
        documents: number of documents in the clusters.
        size_chart: clusters by size.
        lsh_curve: probability that a pair becomes a candidate, by similarity.
        examples: some clusters, the largest first.
    """

    stats: Mapping[str, Any]
    threshold: float
    n_clusters: int
    documents: int
    size_chart: Markup
    lsh_curve: Markup
    similarity_histogram: SimilarityHistogram | None
    examples: Sequence[ClusterExample]

    @property
    def labeled_stats(self) -> list[tuple[str, int]]:
        """The statistics that the stage has, each with its label."""
        return [(label, self.stats[key]) for key, label in STAT_LABELS.items() if key in self.stats]

    @property
    def probability_at_threshold(self) -> float:
        """Probability that a pair with the threshold's similarity becomes a candidate."""
        return candidate_probability(self.threshold, self.stats["bands"], self.stats["rows"])


def collect(run: ReportRun) -> Duplicates | None:
    """Return the clusters of the run; ``None`` if it was not deduplicated."""
    labels = run.dataset("duplicate_labels")
    if labels is None:
        return None
    stats, threshold = labels.stats, float(labels.manifest.config["threshold"])
    sizes = {int(size): int(count) for size, count in stats["cluster_sizes"].items()}
    return Duplicates(
        stats=stats,
        threshold=threshold,
        n_clusters=sum(sizes.values()),
        documents=sum(size * count for size, count in sizes.items()),
        size_chart=_size_chart(sizes),
        lsh_curve=_lsh_curve(stats["bands"], stats["rows"], threshold),
        similarity_histogram=_similarity_histogram(labels, threshold),
        examples=load_examples(run),
    )


def candidate_probability(similarity: float, bands: int, rows: int) -> float:
    """Return the probability that a pair shares a band: ``1 - (1 - s**rows)**bands``."""
    return float(1 - (1 - similarity**rows) ** bands)


def _size_chart(sizes: Mapping[int, int]) -> Markup:
    bars = []
    for low, high in SIZE_BUCKETS:
        count = sum(
            n for size, n in sizes.items() if low <= size and (high is None or size <= high)
        )
        label = str(low) if low == high else f"{low}+" if high is None else f"{low}–{high}"
        bars.append((label, count))
    while len(bars) > 3 and bars[-1][1] == 0:
        bars.pop()
    return bar_chart(bars, title="Clusters by number of members")


def _lsh_curve(bands: int, rows: int, threshold: float) -> Markup:
    """Draw the S-curve of the banding."""
    similarities = [index / CURVE_POINTS for index in range(CURVE_POINTS + 1)]
    return line_chart(
        [Line("candidates", [(s, candidate_probability(s, bands, rows)) for s in similarities])],
        title="Probability that a pair becomes a candidate, by similarity",
        size=FLAT,
        from_zero=True,
        thresholds=[threshold],
    )


def _similarity_histogram(labels: Dataset, threshold: float) -> SimilarityHistogram | None:
    """Draw how similar the compared pairs are; ``None`` if no pair was compared."""
    edges = np.linspace(0.0, 1.0, BINS + 1)
    counts = []
    sampled = False
    for prefix in (VERIFIED_PREFIX, REJECTED_PREFIX):
        files = sorted(name for name in labels.manifest.files if name.startswith(prefix))
        sampled |= len(files) > MAX_FILES
        bins = np.zeros(BINS, np.int64)
        for name in files[:MAX_FILES]:
            with labels.storage.open(labels.manifest.files[name].name) as stream:
                for batch in pq.ParquetFile(stream).iter_batches(columns=["similarity"]):
                    bins += np.histogram(batch["similarity"].to_numpy(), edges)[0]
        counts.append(bins)
    verified, rejected = (bins.tolist() for bins in counts)
    if not sum(verified) + sum(rejected):
        return None
    chart = histogram(
        edges.tolist(),
        verified,
        rejected,
        title="Compared pairs by similarity",
        thresholds=[threshold],
        size=FLAT,
    )
    return SimilarityHistogram(chart, sum(verified), sum(rejected), sampled)


SECTION = Section("duplicates", "Duplicates", collect)
