"""A run over two sources with clusters of every kind, built with the stage engine alone."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.compute.cluster import DaskCluster as Workers
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import NullReporter
from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import json_sha256
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.dataset.tables import table_bytes
from infra.runs.run_records import COMPLETED, RunRecord, StageRecord
from infra.store.storage import Storage

TEXT = " ".join(f"word{n}" for n in range(60))
A, B, C = ("a" * 32, "b" * 32, "c" * 32)  # clusters
SCHEMA = pa.schema(
    [
        ("cluster", pa.string()),
        *((name, pa.int64()) for name in ("part_a", "row_a", "part_b", "row_b")),
        ("similarity", pa.float64()),
        ("band", pa.int16()),
    ]
)


def row(name: str, cluster: str | None = None, text: str = TEXT, **more: Any) -> dict[str, Any]:
    """A document with its duplicate labels and its verdict."""
    return {
        "id": name * 32,
        "text": text,
        "url": f"https://{name}.org/",
        "title": f"Title {name}",
        "cluster": cluster,
        "group": None,
        "reason": None,
        "evidence": None,
        "annotated": True,
        **more,
    }


def dropped(reason: str, survivor: str, similarity: float = 1.0, **more: Any) -> dict[str, Any]:
    """The reason and evidence of a dropped duplicate."""
    evidence = {"survivor": survivor * 32, "similarity": similarity, **more}
    return {"reason": reason, "evidence": evidence}


# A chain in cluster A (1 and 3 are kept), exact duplicates in B beside a row without annotations, C small.
SITE = [
    [
        row("1", A),
        row("0"),
        row(
            "2",
            A,
            TEXT.replace("word7 ", "changed "),
            **dropped("near_duplicate", "1", 0.9, band=3),
        ),
    ],
    [
        row("3", A, TEXT + " and more"),
        row("4", B, group="e" * 32),
        row("9", annotated=False),
        row("5", B, TEXT.upper(), group="e" * 32, **dropped("exact_duplicate", "4")),
        row("6", A, TEXT, reason="language", evidence={"language": "de", "threshold": None}),
    ],
]
BOOKS = [[row("7", C), row("8", C, **dropped("near_duplicate", "7", 0.81))]]
VERIFIED = [
    (A, 0, 0, 0, 2, 0.9, 3),
    (A, 0, 2, 1, 0, 0.85, -1),
    (A, 1, 0, 1, 4, 0.95, 2),
    (C, 2, 0, 2, 1, 0.81, 0),
]
REJECTED = [
    (None, 0, 0, 1, 0, 0.72, -1),
    (None, 0, 0, 1, 1, 0.1, 4),
]


def emit(table: pa.Table, verdicts: pa.Table) -> Iterator[PartResult]:
    """Emit a part that was made beforehand."""
    yield PartResult(table, verdicts)


def stage(
    ctx: Context,
    name: str,
    source: str | None,
    inputs: Sequence[Dataset],
    parts: list[tuple[pa.Table, pa.Table]],
    files: dict[str, bytes] | None = None,
    config: Mapping[str, Any] | None = None,
    stats: Mapping[str, Any] | None = None,
) -> Dataset:
    """Build a data set of given parts."""
    units = [WorkUnit(json_sha256([name, source, k]), part) for k, part in enumerate(parts)]
    spec = DatasetSpec(Stage(name, ("infra.dataset.ledger",)), source, config or {}, tuple(inputs))
    return build_dataset(
        ctx, spec, units, emit, files=files or {}, stats=lambda _: dict(stats or {})
    )


def column(rows: Sequence[dict[str, Any]], name: str) -> "pa.Array[Any]":
    return pa.array([item[name] for item in rows], pa.string())


def documents(ctx: Context, source: str, parts: list[list[dict[str, Any]]]) -> Dataset:
    made = []
    for rows in parts:
        names = ("id", "text", "url", "title")
        table = pa.table({name: column(rows, name) for name in names})
        made.append((table, ledger_table("acquire", table["id"].to_pylist())))
    return stage(ctx, "acquire", source, [], made)


def pairs(rows: Sequence[tuple[Any, ...]]) -> bytes:
    """A file of pairs."""
    columns = list(zip(*rows, strict=True))
    arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
    return table_bytes(pa.table(arrays, SCHEMA))


def store(path: Path, *, until: str = "select") -> tuple[Storage, RunRecord]:
    """A run over two sources, and its record."""
    workers = Workers(ClusterConfig.model_validate({"workers": 0}))
    ctx = Context(Storage(str(path)), 1, workers, NullReporter(), "small", "run")
    made = [documents(ctx, "site", SITE), documents(ctx, "books", BOOKS)]
    every = [*SITE, *BOOKS]
    sizes = {name: sum(r["cluster"] == name for rows in every for r in rows) for name in (A, B, C)}
    labeled, selected = [], []
    for rows in every:
        labels = {
            "id": column(rows, "id"),
            "exact_group": column(rows, "group"),
            "cluster": column(rows, "cluster"),
            "cluster_size": pa.array([sizes.get(r["cluster"], 1) for r in rows], pa.int32()),
        }
        labeled.append((pa.table(labels), ledger_table("dedup", [r["id"] for r in rows])))
        annotated = [r for r in rows if r["annotated"]]
        ids = [r["id"] for r in annotated]
        reasons, evidence = [r["reason"] for r in annotated], [r["evidence"] for r in annotated]
        verdicts = ledger_table("select", ids, reasons=reasons, evidence=evidence)
        selected.append(
            (pa.table({"id": [r["id"] for r in annotated if not r["reason"]]}), verdicts)
        )
    if until != "acquire":
        files = {
            "verified_pairs-00000.parquet": pairs(VERIFIED),
            "rejected_pairs-00000.parquet": pairs(REJECTED),
        }
        stats: dict[str, Any] = {"bands": 14, "rows": 8, "candidates": 4, "verified": 3}
        stats |= {"cluster_sizes": dict(Counter(str(size) for size in sizes.values()))}
        config = {"threshold": 0.8}
        made.append(stage(ctx, "dedup", None, made, labeled, files, config, stats))
    if until == "select":
        made.append(stage(ctx, "select", None, made, selected))
    # Sources stand in another order than in the recipe, as stages that skip one would leave them.
    order = [made[1], made[0], *made[2:]]
    entries = [StageRecord.from_dataset(data, seconds=1.0, cached=False) for data in order]
    record = RunRecord("small", "20260131-1", "2026-01-31T12:00:00+00:00", 1.0, COMPLETED)
    return ctx.storage, RunRecord(**{**vars(record), "stages": entries})
