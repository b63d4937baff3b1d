"""Small corpora as data sets of documents, and plain-Python reference values."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import NullReporter
from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import document_id, json_sha256
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.minhash.shingles import shingles
from infra.schemas.documents import CHAPTERS_TYPE
from infra.store.storage import Storage

DOCUMENTS = Stage("documents", ("tests.dedup.corpora",))
Row = dict[str, Any]


def context(path: Path, workers: int = 0) -> Context:
    """A run in this process, or on local workers."""
    cluster = DaskCluster(ClusterConfig.model_validate({"workers": workers}))
    return Context(Storage(str(path)), 1, cluster, NullReporter())


def row(source: str, text: str, url: str | None = None, **more: Any) -> Row:
    """A document."""
    return {
        "id": document_id(source, url or "", text.encode()),
        "text": text,
        "url": url,
        "date": None,
        "source": source,
        "title": None,
        "chapters": None,
        **more,
    }


def table(rows: Sequence[Row]) -> pa.Table:
    """Documents as a table."""
    types = {"text": pa.large_string(), "chapters": CHAPTERS_TYPE}
    names = ("id", "text", "url", "date", "source", "title", "chapters")
    return pa.table(
        {name: pa.array([r[name] for r in rows], types.get(name, pa.string())) for name in names}
    )


def write(rows: pa.Table) -> Iterator[PartResult]:
    """Write a part unchanged."""
    yield PartResult(
        rows, ledger_table("documents", rows["id"].to_pylist(), urls=rows["url"].to_pylist())
    )


def documents(ctx: Context, source: str, parts: Sequence[Sequence[Row]]) -> Dataset:
    """A committed data set of documents."""
    units = [WorkUnit(json_sha256(list(part)), (table(part),), len(part)) for part in parts]
    spec = DatasetSpec(DOCUMENTS, source, {"parts": [unit.key for unit in units]})
    return build_dataset(ctx, spec, units, write)


def jaccard(a: str, b: str, n: int = 5) -> float:
    """The Jaccard similarity of two texts by definition."""
    one, other = set(shingles(a, n)), set(shingles(b, n))
    return len(one & other) / len(one | other) if one | other else 0.0


def prose(rng: random.Random, words: int) -> list[str]:
    """Random words; no two texts are similar."""
    return [f"w{rng.randrange(5000)}" for _ in range(words)]


def edited(rng: random.Random, words: list[str], edits: int) -> list[str]:
    """A near-duplicate: some words replaced."""
    out = list(words)
    for index in rng.sample(range(len(out)), edits):
        out[index] = f"x{rng.randrange(10**6)}"
    return out
