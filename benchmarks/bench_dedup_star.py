"""What a limit on oversized buckets loses: star edges, neighbors and all pairs compared.

    python -m benchmarks.bench_dedup_star [--pages 2000]

Pages of one template have a similarity of 0.78 to one another, so hundreds fall into the same bucket;
families of five among them have 0.84. A star compares each member of an oversized bucket with the
first one only and misses families without another common bucket; comparing all pairs finds everything
that the bands can, at a quadratic cost. Prints the number of compared pairs and the fraction of family
pairs that end in one cluster.
"""

import argparse
import itertools
import random
import tempfile
from typing import Any

import pyarrow as pa

from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import NullReporter
from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import json_sha256
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.store.storage import Storage
from tasks.dedup import task as dedup
from tasks.dedup.config import DedupConfig

TEMPLATE, SHARED, OWN = 350, 22, 28  # words of the site, of a family, of a page
FAMILY = 5
STAGE = Stage("pages", ())
CONFIGS = {"star": (64, 0), "star and 8 neighbors": (64, 8), "all pairs": (10_000, 8)}


def main() -> None:
    """Generate the pages and deduplicate them with each setting."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pages", type=int, default=2000)
    given = options.parse_args()
    texts, family = pages(given.pages)
    with (
        tempfile.TemporaryDirectory() as folder,
        DaskCluster(ClusterConfig.model_validate({"workers": 0})) as cluster,
    ):
        ctx = Context(Storage(folder), 1, cluster, NullReporter())
        source = documents(ctx, texts)
        print(f"{'':24}{'compared':>12}{'oversized buckets':>18}{'family pairs in cluster':>25}")
        for name, (bucket, neighbors) in CONFIGS.items():
            base = DedupConfig.model_validate({"exhaustive_bucket_size": bucket})
            config = base.model_copy(
                update={"neighbors": neighbors}
            )  # 0 is not a valid setting; for this comparison only
            inputs: dict[str, Any] = {"config": config, "documents": [source]}
            labels = dedup.build(ctx, dedup.spec(ctx, **inputs), **inputs)
            clusters = labels.table(["cluster"])["cluster"].to_pylist()
            hits = [clusters[a] is not None and clusters[a] == clusters[b] for a, b in family]
            stats = labels.stats
            print(
                f"{name:24}{stats['candidates'] + stats['intra_cluster_pairs']:>12,}"
                f"{stats['oversized_buckets']:>18,}{sum(hits) / len(hits):>24.1%}",
                flush=True,
            )


def pages(count: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Return texts in shuffled order, and the pairs of indices whose pages are of one family."""
    rng = random.Random(1)
    template = [f"t{rng.randrange(10**6)}" for _ in range(TEMPLATE)]
    numbered = []
    for number in range(count // FAMILY):
        shared = [f"s{rng.randrange(10**6)}" for _ in range(SHARED)]
        for _ in range(FAMILY):
            own = [f"o{rng.randrange(10**6)}" for _ in range(OWN)]
            numbered.append((number, " ".join(template + shared + own)))
    rng.shuffle(numbered)
    indices: dict[int, list[int]] = {}
    for index, (number, _) in enumerate(numbered):
        indices.setdefault(number, []).append(index)
    pairs = [pair for members in indices.values() for pair in itertools.combinations(members, 2)]
    return [text for _, text in numbered], pairs


def documents(ctx: Context, texts: list[str]) -> Dataset:
    """Commit the texts as a data set."""
    nulls = pa.nulls(len(texts), pa.string())
    table = pa.table(
        {
            "id": [f"{k:032x}" for k in range(len(texts))],
            "text": pa.array(texts, pa.large_string()),
            "url": nulls,
            "title": nulls,
            "source": ["pages"] * len(texts),
        }
    )
    unit = WorkUnit(json_sha256(texts), (table,), len(texts))
    return build_dataset(ctx, DatasetSpec(STAGE, "pages", {}), [unit], _write)


def _write(table: pa.Table) -> list[PartResult]:
    ids = table["id"].to_pylist()
    return [PartResult(table, ledger_table(STAGE.name, ids, urls=table["url"].to_pylist()))]


if __name__ == "__main__":
    main()
