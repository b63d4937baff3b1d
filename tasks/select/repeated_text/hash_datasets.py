"""Data sets of what is compared of each document: lists of hashes, part by part, in its order.

They depend on the document alone, so parts that come in later cost themselves only.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.dataset.dataset import TABLE, Dataset, PartRef
from infra.dataset.fingerprint import digest
from infra.dataset.ledger import verdicts
from infra.dataset.stage import Context, Outcome, Spec, Stage, Unit, build
from infra.formats.unicode_tables import VERSION

COLUMN = "hashes"
Hashing = Callable[[Any, Any], "pa.Array[Any]"]  # of a column of texts


def build_hashes(
    ctx: Context,
    stage: Stage,
    settings: Mapping[str, Any],
    hashing: Hashing,
    argument: Any,
    documents: Sequence[Dataset],
) -> list[PartRef]:
    """The hashes of all parts, row-aligned with the documents, in the order of the sources.

    Args:
        ctx: the run.
        stage: whose data sets these are.
        settings: what the hashes depend on besides the texts.
        hashing: module-level; gives a list of uint64 per text.
        argument: its second argument.
        documents: the sources' documents.
    """
    parts = []
    for source in documents:
        spec = Spec(stage, source.source, {**settings, "unicode": VERSION}, (source,))
        units = [
            Unit(digest(part.content), (part, stage.name, hashing, argument), part.rows)
            for part in source.parts
        ]
        parts += build(ctx, spec, units, take).parts
    return parts


def count_hashes(part: PartRef) -> int:
    """How many hashes a part holds, as the footer of its file says; an empty list counts as one."""
    with part.open(TABLE) as file:
        footer = pq.ParquetFile(file).metadata
    return sum(footer.row_group(k).column(0).num_values for k in range(footer.num_row_groups))


def take(part: PartRef, stage: str, hashing: Hashing, argument: Any) -> Iterator[Outcome]:
    """Take the hashes of one part."""
    table = part.table(["id", "url", "text"])
    kept = pa.table({COLUMN: hashing(table["text"], argument)})
    said = verdicts(stage, table["id"].to_pylist(), urls=table["url"].to_pylist())
    yield Outcome(kept, said)
