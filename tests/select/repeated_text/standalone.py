"""Selection of documents without duplicates, so that deduplication need not run."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.removals.match import Removal
from tasks.select import task as select
from tasks.select.config import SelectConfig
from tests.select.annotations import annotated

DEDUP = Stage("dedup", ("tests.select.repeated_text.standalone",))


def label_part(part: PartRef) -> Iterator[PartResult]:
    """Write labels of a part without duplicates."""
    table = part.table(["id"])
    none = pa.nulls(part.num_rows, pa.string())
    sizes = pa.array([1] * part.num_rows, pa.int32())
    labels = {"id": table["id"], "exact_group": none, "cluster": none, "cluster_size": sizes}
    yield PartResult(pa.table(labels), ledger_table("dedup", table["id"].to_pylist()))


def run_alone(
    ctx: Context,
    sources: Sequence[Dataset],
    annotations: Sequence[Dataset] | None = None,
    removals: Sequence[Removal] = (),
    **fields: Any,
) -> Dataset:
    """The corpus of these sources."""
    units = [
        WorkUnit(part.content, (part,), part.num_rows) for data in sources for part in data.parts
    ]
    counts = ("clustered_documents", "verified", "intra_cluster_verified")
    facts = {**dict.fromkeys(counts, 0), "largest_clusters": []}
    spec = DatasetSpec(DEDUP, None, {}, tuple(sources))
    inputs: dict[str, Any] = {
        "config": SelectConfig.model_validate({"languages": {}, "quality_filters": [], **fields}),
        "documents": list(sources),
        "annotations": [annotated(ctx, source) for source in sources]
        if annotations is None
        else list(annotations),
        "removals": removals,
        "duplicate_labels": build_dataset(ctx, spec, units, label_part, stats=lambda _: facts),
    }
    return select.build(ctx, select.spec(ctx, **inputs), **inputs)
