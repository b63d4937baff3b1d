"""Selection of documents none of which is a copy of another, so that deduplication need not run."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.ledger import verdicts
from infra.dataset.stage import Context, Outcome, Spec, Stage, Unit, build
from infra.removals.match import Removal
from tasks.select.config import SelectConfig
from tasks.select.task import select
from tests.select.annotations import annotated

MARKS = Stage("dedup", ("tests.select.repeated_text.standalone",))


def mark(part: PartRef) -> Iterator[Outcome]:
    """Marks of a part: no copies."""
    table = part.table(["id"])
    none = pa.nulls(part.rows, pa.string())
    sizes = pa.array([1] * part.rows, pa.int32())
    marks = {"id": table["id"], "exact_group": none, "cluster": none, "cluster_size": sizes}
    yield Outcome(pa.table(marks), verdicts("dedup", table["id"].to_pylist()))


def run_alone(
    ctx: Context,
    sources: Sequence[Dataset],
    notes: Sequence[Dataset] | None = None,
    removals: Sequence[Removal] = (),
    **fields: Any,
) -> Dataset:
    """The corpus of these sources."""
    units = [Unit(part.content, (part,), part.rows) for data in sources for part in data.parts]
    counts = ("clustered_documents", "verified", "within_clusters_verified")
    facts = {**dict.fromkeys(counts, 0), "largest_clusters": []}
    spec = Spec(MARKS, None, {}, tuple(sources))
    inputs: dict[str, Any] = {
        "config": SelectConfig.model_validate({"languages": {}, "quality": [], **fields}),
        "documents": list(sources),
        "notes": [annotated(ctx, source) for source in sources] if notes is None else list(notes),
        "removals": removals,
        "marks": build(ctx, spec, units, mark, facts=lambda _: facts),
    }
    return select.build(ctx, select.spec(ctx, **inputs), **inputs)
