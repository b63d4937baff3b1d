"""Deduplication as a sequence of phases, from signatures to duplicate clusters.

Every phase is a list of tasks over part groups or over partitions; a task reads and writes files of
the work folder (``infra.compute.phases``).
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infra.compute.phases import Phase, PhaseRunner
from infra.dataset.manifest import FileRecord
from infra.dataset.stage import Context
from infra.store.storage import Storage
from tasks.dedup import results
from tasks.dedup.candidates import candidate_pairs, components, exact, lsh
from tasks.dedup.config import DedupConfig
from tasks.dedup.part_groups import PartGroup
from tasks.dedup.shuffle_plan import EDGE_ROW_BYTES, DedupPlan
from tasks.dedup.verification import batches, verify

log = logging.getLogger(__name__)

Stats = dict[str, Any]
PAIRS_PHASE = "comparisons"  # writes into the data set's folder


@dataclass(frozen=True)
class PreviousResult:
    """An earlier data set whose similarities are reused.

    Attributes:
        folder: its folder.
        files: its files of pairs, with their checksums.
        starts: for each of its parts that still exists, the number of the part's first document in
            this run.
    """

    folder: Storage
    files: Sequence[FileRecord]
    starts: Mapping[int, int]


@dataclass(frozen=True)
class DedupResult:
    """What `find_duplicates` wrote.

    Attributes:
        label_digests: digests of the duplicate labels of each part, in order; the labels are in
            ``labels/`` of the work folder.
        files: the files of pairs in the data set's folder, by name.
        stats: counts, and the largest clusters.
        largest_bucket: members of the largest bucket.
    """

    label_digests: Sequence[str]
    files: Mapping[str, FileRecord]
    stats: Mapping[str, Any]
    largest_bucket: int


def find_duplicates(
    ctx: Context,
    part_groups: Sequence[PartGroup],
    config: DedupConfig,
    work: Storage,
    folder: Storage,
    previous: PreviousResult | None = None,
) -> DedupResult:
    """Find the duplicate clusters of all documents.

    Args:
        ctx: the run.
        part_groups: all parts of all sources.
        config: the recipe's section.
        work: the work folder.
        folder: the data set's folder, which receives the files of pairs.
        previous: similarities to reuse.

    Raises:
        NotConvergedError: if the connected components do not converge.
    """
    runner = PhaseRunner(ctx.cluster, ctx.reporter, work, "dedup")
    run = runner.run
    plan = DedupPlan.from_part_groups(work, config, part_groups)
    digests = run("digests", exact.send_digests, [(plan, g) for g in part_groups])
    groups = run("groups", exact.find_groups, [(plan, p) for p in plan.exact_partitions])
    keys = run("keys", lsh.send_keys, [(plan, g) for g in part_groups])
    buckets = run("buckets", lsh.bucket_pairs, [(plan, p) for p in plan.key_partitions])
    oversized = total(buckets, "oversized") > 0
    oversized_pairs: list[Stats] = []
    if oversized:
        members = total(buckets, "oversized_members")
        plan = plan.with_oversized(members, lsh.oversized_row_bytes(plan))
        run("oversized buckets", lsh.send_oversized_members, [(plan, g) for g in part_groups])
        oversized_pairs = run(
            "oversized pairs",
            lsh.oversized_bucket_pairs,
            [(plan, p) for p in plan.oversized_partitions],
        )
    files = list(previous.files) if previous else []
    if previous:
        known = [(plan, k, previous.folder, f, previous.starts) for k, f in enumerate(files)]
        run("known pairs", candidate_pairs.send_known, known)
    pair_ranges = range(plan.n_pair_ranges)
    merged = run(
        "pairs",
        candidate_pairs.merge_pairs,
        [(plan, p, len(files), lsh.pair_mappers(plan, oversized=oversized)) for p in pair_ranges],
    )
    candidates = total(merged, "candidates")
    intra_cluster = _find_components(runner, plan, candidates)
    run("members", batches.send_members, [(plan, p) for p in pair_ranges])
    counts = run("shingle counts", batches.count_shingles, [(plan, g) for g in part_groups])
    text_bytes = [[part.documents.record.text_bytes for part in g.parts] for g in part_groups]
    reads = plan.text_reads([item["shingles"] for item in counts], text_bytes)
    shingles = sum(sum(item["shingles"]) for item in counts)
    plan = plan.with_batches(shingles, candidates + intra_cluster, len(reads))
    runner.run_parallel(
        Phase("nodes", batches.send_nodes, [(plan, g) for g in part_groups]),
        Phase("edges", batches.send_edges, [(plan, p) for p in pair_ranges]),
    )
    run("requests", verify.request_shingles, [(plan, k) for k in plan.batches])
    texts = [(plan, part_groups[g], k, first, last) for k, (g, first, last) in enumerate(reads)]
    run("texts", batches.send_shingles, texts)
    verified = run("verification", verify.verify, [(plan, k) for k in plan.batches])
    run("exact groups", results.assign_exact_groups, [(plan, p) for p in plan.exact_partitions])
    starts = np.array([p.start for g in part_groups for p in g.parts] + [plan.n_documents])
    pair_files = {name for k in range(plan.n_files) for name in results.pair_file_names(k)}
    if not pair_files <= set(folder.list_files()):
        runner.invalidate(PAIRS_PHASE)  # the uncommitted folder may have been cleaned up
    labels, records = runner.run_parallel(
        Phase("labels", results.write_labels, [(plan, g) for g in part_groups]),
        Phase(
            PAIRS_PHASE,
            results.write_pairs,
            [(plan, folder, starts, k) for k in range(plan.n_files)],
        ),
    )
    log.info(
        "dedup: %s candidate pairs, %s compared now, the others known from earlier runs",
        f"{candidates:,}",
        f"{total(verified, 'compared'):,}",
    )
    sizes: Counter[int] = Counter()
    for group in labels:
        sizes.update({int(size): n for size, n in group["sizes"].items()})
    stats: Stats = {
        "documents": total(digests, "documents"),
        "short_documents": total(digests, "short"),
        "minhashed_documents": total(keys, "minhashed"),
        "exact_groups": total(groups, "groups"),
        "exact_duplicates": total(groups, "duplicates"),
        "buckets": total(buckets, "buckets"),
        "largest_bucket": max((item["largest"] for item in buckets), default=0),
        "oversized_buckets": total(buckets, "oversized"),
        "uncompared_bucket_pairs": total(oversized_pairs, "uncompared"),
        "candidates": candidates,
        "verified": total(verified, "verified"),
        "rejected": candidates - total(verified, "verified"),
        "intra_cluster_pairs": total(verified, "intra_cluster"),
        "intra_cluster_verified": total(verified, "intra_cluster_verified"),
        "uncompared_intra_cluster_pairs": total(verified, "uncompared"),
        "clusters": sum(n // size for size, n in sizes.items() if size > 1),
        "clustered_documents": sum(n for size, n in sizes.items() if size > 1),
        "cluster_sizes": {str(size): n // size for size, n in sorted(sizes.items()) if size > 1},
        "largest_clusters": _largest_clusters(runner, part_groups, work, labels),
    }
    return DedupResult(
        [digest for group in labels for digest in group["parts"]],
        {item["name"]: FileRecord(**item) for group in records for item in group},
        stats,
        int(stats["largest_bucket"]),
    )


def total(results: Sequence[Stats], name: str) -> int:
    """Return the sum of a count over the tasks of a phase."""
    return sum(int(item[name]) for item in results)


def _find_components(runner: PhaseRunner, plan: DedupPlan, candidates: int) -> int:
    """Find the component of every document in a candidate pair.

    Returns:
        An upper bound on the pairs that will be compared within clusters.

    Raises:
        NotConvergedError: if the components do not converge.
    """
    run, ranges = runner.run, range(plan.n_pair_ranges)
    if candidates * EDGE_ROW_BYTES <= plan.config.partition_bytes:
        return total(run("components", components.connect_all, [(plan,)]), "intra_cluster")
    run("components", components.init_stars, [(plan, p) for p in ranges])
    before: tuple[int, int] | None = None
    for number in range(0, 2 * components.MAX_ROUNDS, 2):
        large = run(
            f"large stars {number}", components.run_star_step, [(plan, number, p) for p in ranges]
        )
        states = run(
            f"stars {number}", components.convergence_state, [(plan, number + 1, p) for p in ranges]
        )
        state = (total(states, "edges"), total(states, "sum") % 2**64)
        if state == before:
            return total(large, "intra_cluster")
        before = state
        run(
            f"small stars {number}",
            components.run_star_step,
            [(plan, number + 1, p) for p in ranges],
        )
    raise components.NotConvergedError(
        f"dedup: connected components did not converge in {components.MAX_ROUNDS} rounds"
    )


def _largest_clusters(
    runner: PhaseRunner,
    part_groups: Sequence[PartGroup],
    work: Storage,
    label_stats: Sequence[Stats],
) -> list[Stats]:
    sizes = {cluster: size for group in label_stats for cluster, size in group["largest"]}
    # Equally large clusters are ordered by their digests.
    chosen = sorted(sizes, key=lambda name: (-sizes[name], name))[: results.MAX_SHOWN_CLUSTERS]
    if not chosen:
        return []
    described = runner.run(
        "largest clusters", results.describe_clusters, [(g, chosen, work) for g in part_groups]
    )
    clusters = []
    for name in chosen:
        sources: Counter[str] = Counter()
        members: list[Stats] = []
        for group in described:
            sources.update(group[name]["sources"])
            members += group[name]["members"]
        clusters.append(
            {
                "cluster": name,
                "documents": sizes[name],
                "sources": dict(sorted(sources.items())),
                "members": members[: results.MAX_SHOWN_MEMBERS],
            }
        )
    return clusters
