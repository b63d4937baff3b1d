"""Scaling of LSH, clustering and survivor selection: time, memory and disk, from thousands to millions.

    python -m benchmarks.bench_dedup_scale [--sizes 1.25,2.5,5,10,50] [--memory 512MiB,128MiB]

Sizes are millions of synthetic signatures (``benchmarks/dedup_synthetic.py``), on two workers. The
first memory setting runs all sizes and has to meet the target; the others run up to ten million and
show that the limit is kept, and its cost. Prints the seconds of clustering and of survivor selection,
a worker's peak resident memory, the bytes of the shuffles and the clusters; then the exponent of a power
law fitted to the times. The cluster starts and compiles its kernels before timing begins.
"""

import argparse
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.dedup_synthetic import PART, bytes_per_document, part
from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import NullReporter
from infra.dataset.dataset import PartRef
from infra.dataset.stage import Context
from infra.schemas.duplicate_pairs import VERIFIED_PREFIX
from infra.store.storage import Storage
from tasks.dedup.config import DedupConfig
from tasks.dedup.part_groups import PartGroup, PartInfo
from tasks.dedup.pipeline import DedupResult, find_duplicates
from tasks.dedup.shuffle_plan import DedupPlan
from tasks.select.cluster_selection import (
    collect_dropped,
    select_partition,
    send_candidates,
    send_pairs,
)
from tasks.select.config import SelectConfig
from tasks.select.eligibility import check_eligibility
from tasks.select.part_inputs import PartInputs
from tasks.select.plan import SelectionPlan

WORKERS = 2
MILLION = 1_000_000
TARGET = 1.1  # maximum exponent
SMALL = 10 * MILLION
Pair = tuple[PartRef, PartRef]


def main() -> int:
    """Run all sizes with all memory settings; exit 1 if time grows too fast with the first one."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sizes", default="1.25,2.5,5,10,50")
    options.add_argument("--memory", default="512MiB,128MiB")
    options.add_argument("--folder", default=None, help="folder of signatures and spilled files")
    given = options.parse_args()
    sizes = [int(float(size) * MILLION) for size in given.sizes.split(",")]
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        root = Storage(folder)
        print(f"signatures of {max(sizes):,} documents ...", flush=True)
        parts = make(root.subdir("parts"), max(sizes))
        keys = [key for _, key in parts]
        print(f"{bytes_per_document(keys):.0f} bytes per document stored", flush=True)
        first = 0.0
        for index, memory in enumerate(given.memory.split(",")):
            chosen = [size for size in sizes if not index or size <= SMALL]
            config = DedupConfig.model_validate(
                {"verification": "signature", "partition_memory": memory}
            )
            print(f"\nmemory {memory}, {WORKERS} workers")
            head = (
                "documents",
                "dedup s",
                "survivors s",
                "worker MB",
                "shuffled B/doc",
                "clusters",
            )
            print("".join(f"{name:>14}" for name in head), flush=True)
            times = [measure(root, parts, size, config) for size in chosen]
            exponent = float(np.polyfit(np.log(chosen), np.log(times), 1)[0])
            first = first if index else exponent
            target = "" if index else f" (target <= {TARGET})"
            print(f"exponent of time over documents: {exponent:.3f}{target}")
    return int(first > TARGET)


def make(storage: Storage, documents: int) -> list[Pair]:
    """Generate all parts on the workers."""
    config = DedupConfig()
    counts = [min(PART, documents - start) for start in range(0, documents, PART)]
    out: list[Pair | None] = [None] * len(counts)
    with DaskCluster(ClusterConfig(workers=WORKERS)) as cluster:
        payloads = [(storage, number, rows, config) for number, rows in enumerate(counts)]
        for index, pair in cluster.map(part, payloads):
            out[index] = pair
    return [pair for pair in out if pair is not None]


def measure(root: Storage, parts: Sequence[Pair], documents: int, config: DedupConfig) -> float:
    """Deduplicate the first documents and choose survivors; print a line; return the seconds."""
    chosen = list(parts[: -(-documents // PART)])
    with DaskCluster(ClusterConfig(workers=WORKERS)) as cluster:
        ctx = Context(root, 1, cluster, NullReporter())
        run(ctx, chosen[:1], config)  # compiles
        shutil.rmtree(Path(root.url) / "run")
        joined, first, second = run(ctx, chosen, config)
        peak = max(cluster.client().run(_peak_rss_kib).values())
    work = root.subdir("run", "work")
    shuffled = sum(work.size(name) for name in work.list_files()) / documents
    shutil.rmtree(Path(root.url) / "run")
    row = [f"{documents:,}", f"{first:.1f}", f"{second:.1f}", f"{peak / 1024:.0f}"]
    row += [f"{shuffled:.0f}", f"{joined.stats['clusters']:,}"]
    print("".join(f"{cell:>14}" for cell in row), flush=True)
    return first + second


def run(
    ctx: Context, parts: Sequence[Pair], config: DedupConfig
) -> tuple[DedupResult, float, float]:
    """Run deduplication and survivor selection; return the seconds of each."""
    start = time.perf_counter()
    work, folder = ctx.storage.subdir("run", "work"), ctx.storage.subdir("run", "pairs")
    joined = find_duplicates(ctx, make_blocks(parts, config), config, work, folder)
    middle = time.perf_counter()
    select_survivors(ctx, parts, joined, work, folder)
    return joined, middle - start, time.perf_counter() - middle


def make_blocks(parts: Sequence[Pair], config: DedupConfig) -> list[PartGroup]:
    """Return part groups, as `tasks.dedup.part_groups.group_parts` makes them."""
    rows = DedupPlan.part_group_rows(config)
    out: list[PartGroup] = []
    pieces: list[PartInfo] = []
    start = 0
    for number, (documents, keys) in enumerate(parts):
        pieces.append(PartInfo(number, start, documents, keys))
        start += keys.num_rows
        if start - pieces[0].start >= rows or number == len(parts) - 1:
            out.append(PartGroup(len(out), tuple(pieces)))
            pieces = []
    return out


def select_survivors(
    ctx: Context, parts: Sequence[Pair], joined: DedupResult, work: Storage, folder: Storage
) -> None:
    """Run the survivor selection of ``select`` over the duplicate labels."""
    starts = np.cumsum([0, *(keys.num_rows for _, keys in parts)])
    partitions = 1
    while partitions * 200_000 < joined.stats["clustered_documents"]:
        partitions *= 2
    config = SelectConfig.model_validate({"languages": {}, "quality_filters": [], "pii": "keep"})
    plan = SelectionPlan(
        work.subdir("selection"),
        tuple(starts[:-1].tolist()),
        int(starts[-1]),
        partitions,
        ("source", "longest"),
    )
    filters = config.filters_for(None)
    inputs = [
        PartInputs(0, documents, documents, _duplicate_labels(work, number, documents))
        for number, (documents, _) in enumerate(parts)
    ]
    files = [name for name in joined.files if name.startswith(VERIFIED_PREFIX)]
    for function, payloads in (
        (check_eligibility, [(plan, k, item, filters, ()) for k, item in enumerate(inputs)]),
        (send_candidates, [(plan, k, item, ()) for k, item in enumerate(inputs)]),
        (send_pairs, [(plan, k, folder, name) for k, name in enumerate(files)]),
        (select_partition, [(plan, k, len(files)) for k in range(partitions)]),
        (collect_dropped, [(plan, k) for k in range(len(parts))]),
    ):
        for _ in ctx.cluster.map(function, payloads):
            pass


def _duplicate_labels(work: Storage, number: int, documents: PartRef) -> PartRef:
    record = documents.record
    name = f"labels/{number}.parquet"
    files = {"parquet": type(record.files["parquet"])(name, 0, "")}
    return PartRef(
        work, "dedup", None, type(record)(name, record.num_rows, 0, record.counts, files)
    )


def _peak_rss_kib() -> int:
    """Return the peak resident memory of this process in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.exit(main())
