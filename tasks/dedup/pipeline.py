"""The join as a picture: what is sent to whom, from keys to clusters.

Every step is a list of tasks over blocks of parts or over partitions; a task reads files and writes
files of the work folder, and is done when its receipt is there.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from infra.compute.progress import Progress
from infra.dataset.dataset import FileRecord
from infra.dataset.stage import Context
from infra.store.storage import Storage
from tasks.dedup import results
from tasks.dedup.candidates import candidate_pairs, components, exact, lsh
from tasks.dedup.config import DedupConfig
from tasks.dedup.part_groups import PartGroup
from tasks.dedup.shuffle_plan import EDGE_ROW_BYTES, ShufflePlan
from tasks.dedup.verification import batches, verify

log = logging.getLogger(__name__)

I64 = npt.NDArray[np.int64]
Stats = dict[str, Any]


@dataclass(frozen=True)
class PreviousResult:
    """An earlier data set whose comparisons may be looked up.

    Attributes:
        folder: its folder.
        files: its files of pairs, with their checksums.
        starts: by number of a part there, the number of its first document here.
    """

    folder: Storage
    files: Sequence[FileRecord]
    starts: Mapping[int, int]


@dataclass(frozen=True)
class DedupResult:
    """What the join found.

    Attributes:
        label_digests: digests of the marks of each part, in order; they lie in ``work/marked``.
        files: the files of pairs, by name, written to the data set's folder.
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
    """Find the clusters of all documents in some blocks.

    Args:
        ctx: the run.
        part_groups: all parts of all sources.
        config: the recipe's section.
        work: a folder for what passes between steps.
        folder: where the files of pairs go.
        previous: comparisons to look up.

    Raises:
        IntegrityError: if components do not settle.
    """
    run = _StepRunner(ctx, work)
    cut = ShufflePlan.from_part_groups(work, config, part_groups)
    found = run("digests", exact.send_digests, [(cut, b) for b in part_groups])
    groups = run("groups", exact.find_groups, [(cut, p) for p in cut.exact_partitions])
    signed = run("keys", lsh.send_keys, [(cut, b) for b in part_groups])
    buckets = run("buckets", lsh.bucket_pairs, [(cut, p) for p in cut.key_partitions])
    crowded = total(buckets, "oversized") > 0
    ordered: list[Stats] = []
    if crowded:
        cut = cut.with_oversized(total(buckets, "oversized_members"), lsh.oversized_row_bytes(cut))
        run("oversized buckets", lsh.send_oversized_members, [(cut, b) for b in part_groups])
        ordered = run(
            "oversized pairs",
            lsh.oversized_bucket_pairs,
            [(cut, p) for p in cut.oversized_partitions],
        )
    files = list(previous.files) if previous else []
    if previous:
        known = [(cut, k, previous.folder, f, previous.starts) for k, f in enumerate(files)]
        run("known pairs", candidate_pairs.send_known, known)
    nominated = run(
        "pairs", _merge_pairs, [(cut, p, len(files), crowded) for p in range(cut.n_ranges)]
    )
    candidates = total(nominated, "candidates")
    within = _find_components(run, cut, candidates)
    run("members", batches.send_members, [(cut, p) for p in range(cut.n_ranges)])
    weights = run("shingle counts", batches.count_shingles, [(cut, b) for b in part_groups])
    lengths = [[piece.documents.record.text_bytes for piece in b.parts] for b in part_groups]
    readings = cut.text_reads([item["shingles"] for item in weights], lengths)
    shingles = sum(sum(item["shingles"]) for item in weights)
    cut = cut.with_batches(shingles, candidates + within, len(readings))
    run.run_parallel(
        ("nodes", batches.send_nodes, [(cut, b) for b in part_groups]),
        ("edges", batches.send_edges, [(cut, p) for p in range(cut.n_ranges)]),
    )
    run("requests", verify.request_shingles, [(cut, k) for k in cut.batches])
    texts = [(cut, part_groups[b], k, first, last) for k, (b, first, last) in enumerate(readings)]
    run("texts", batches.send_shingles, texts)
    verified = run("verification", verify.verify, [(cut, k) for k in cut.batches])
    run("exact groups", results.assign_exact_groups, [(cut, p) for p in cut.exact_partitions])
    starts = np.array([p.start for b in part_groups for p in b.parts] + [cut.n_documents])
    if not {name for k in range(cut.n_files) for name in results.pair_file_names(k)} <= set(
        folder.list_files()
    ):
        run.invalidate("comparisons")  # the folder is no data set yet, and somebody tidied it up
    written, records = run.run_parallel(
        ("labels", results.write_labels, [(cut, b) for b in part_groups]),
        (
            "comparisons",
            results.write_pairs,
            [(cut, folder, starts, k) for k in range(cut.n_files)],
        ),
    )
    log.info(
        "dedup: %s candidate pairs, %s compared now, the others known from earlier runs",
        f"{candidates:,}",
        f"{total(verified, 'compared'):,}",
    )
    sizes: Counter[int] = Counter()
    for block in written:
        sizes.update({int(size): n for size, n in block["sizes"].items()})
    facts: Stats = {
        "documents": total(found, "documents"),
        "short_documents": total(found, "short"),
        "minhashed_documents": total(signed, "minhashed"),
        "exact_groups": total(groups, "groups"),
        "exact_duplicates": total(groups, "duplicates"),
        "buckets": total(buckets, "buckets"),
        "largest_bucket": max((s["largest"] for s in buckets), default=0),
        "oversized_buckets": total(buckets, "oversized"),
        "pairs_left_out": total(ordered, "left_out"),
        "candidates": candidates,
        "verified": total(verified, "verified"),
        "rejected": candidates - total(verified, "verified"),
        "within_clusters": total(verified, "within"),
        "within_clusters_verified": total(verified, "within_verified"),
        "within_clusters_left_out": total(verified, "within_left_out"),
        "clusters": sum(n // size for size, n in sizes.items() if size > 1),
        "clustered_documents": sum(n for size, n in sizes.items() if size > 1),
        "cluster_sizes": {str(size): n // size for size, n in sorted(sizes.items()) if size > 1},
        "largest_clusters": _largest_clusters(run, part_groups, work, written),
    }
    return DedupResult(
        [digest for block in written for digest in block["parts"]],
        {item["name"]: FileRecord(**item) for group in records for item in group},
        facts,
        int(facts["largest_bucket"]),
    )


def total(stats: Sequence[Stats], name: str) -> int:
    """The sum of a count over the tasks of a step."""
    return sum(int(item[name]) for item in stats)


def _merge_pairs(plan: ShufflePlan, partition: int, n_files: int, oversized: bool) -> Stats:  # noqa: FBT001
    return candidate_pairs.merge_pairs(plan, partition, n_files, oversized=oversized)


def _find_components(run: "_StepRunner", plan: ShufflePlan, candidates: int) -> int:
    """Name the component of every nominated document; the most pairs that clusters may add."""
    ranges = range(plan.n_ranges)
    if candidates * EDGE_ROW_BYTES <= plan.config.partition_bytes:
        return total(run("components", components.connect_all, [(plan,)]), "within")
    run("components", components.init_stars, [(plan, p) for p in ranges])
    before: tuple[int, int] | None = None
    for number in range(0, 2 * components.MAX_ROUNDS, 2):
        large = run(
            f"large stars {number}", components.run_star_step, [(plan, number, p) for p in ranges]
        )
        seen = run(
            f"stars {number}", components.convergence_state, [(plan, number + 1, p) for p in ranges]
        )
        state = (total(seen, "edges"), total(seen, "sum") % 2**64)
        if state == before:
            return total(large, "within")
        before = state
        run(
            f"small stars {number}",
            components.run_star_step,
            [(plan, number + 1, p) for p in ranges],
        )
    raise components.NotConvergedError(
        f"components have not settled after {components.MAX_ROUNDS} rounds"
    )


def _largest_clusters(
    run: "_StepRunner",
    part_groups: Sequence[PartGroup],
    work: Storage,
    label_stats: Sequence[Stats],
) -> list[Stats]:
    sizes = {name: size for block in label_stats for name, size in block["largest"]}
    # Of equally large clusters the one of the least digest comes first.
    wanted = sorted(sizes, key=lambda name: (-sizes[name], name))[: results.MAX_SHOWN_CLUSTERS]
    if not wanted:
        return []
    parts = run(
        "largest clusters", results.describe_clusters, [(b, wanted, work) for b in part_groups]
    )
    out = []
    for name in wanted:
        sources: Counter[str] = Counter()
        members: list[Stats] = []
        for part in parts:
            sources.update(part[name]["sources"])
            members += part[name]["members"]
        out.append(
            {
                "cluster": name,
                "documents": sizes[name],
                "sources": dict(sorted(sources.items())),
                "members": members[: results.MAX_SHOWN_MEMBERS],
            }
        )
    return out


class _StepRunner:
    """Runs the tasks of a step over the cluster, those that are not done yet."""

    def __init__(self, ctx: Context, work: Storage) -> None:
        self._ctx = ctx
        self._work = work

    def __call__(
        self, name: str, function: Callable[..., Any], payloads: Sequence[tuple[Any, ...]]
    ) -> list[Any]:
        return self.run_parallel((name, function, payloads))[0]

    def invalidate(self, name: str) -> None:
        """Run a step anew, whatever was done of it."""
        self._work.subdir("done", name).remove_tree()

    def run_parallel(
        self, *steps: tuple[str, Callable[..., Any], Sequence[tuple[Any, ...]]]
    ) -> list[list[Any]]:
        """Run steps of which none waits for another; gives the results of each."""
        out: list[list[Any]] = [[None] * len(payloads) for _, _, payloads in steps]
        names = [name for name, _, _ in steps]
        self._ctx.reporter.update(Progress("dedup", None, 0, 0, " and ".join(names)))
        jobs, places = [], []
        for number, (name, function, payloads) in enumerate(steps):
            step = f"done/{name.replace(' ', '-')}"
            done = set(self._work.list_files(step))
            for index, payload in enumerate(payloads):
                receipt = f"{step}/{index:06d}.json"
                if receipt in done:
                    out[number][index] = json.loads(self._work.read(receipt))
                else:
                    jobs.append((self._work, receipt, function, payload))
                    places.append((number, index))
        for place, result in self._ctx.cluster.map(_run_task, jobs):
            number, index = places[place]
            out[number][index] = result
        return out


def _run_task(work: Storage, result_file: str, function: Callable[..., Any], payload: Any) -> Any:
    result = function(*payload)
    data = json.dumps(result).encode()
    work.write(result_file, data, durable=False)
    return json.loads(data)  # the same as one that is read later
