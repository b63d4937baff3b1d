"""Data sets of hashes to compare: a list of hashes per document, part by part.

They depend on the document alone, so a new part does not change the hashes of other parts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.dataset.dataset import TABLE_SUFFIX, Dataset, PartRef
from infra.dataset.fingerprint import json_sha256
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.formats.unicode_tables import UNICODE_VERSION

HASH_COLUMN = "hashes"
HashFunction = Callable[[Any, Any], "pa.Array[Any]"]  # of a column of texts


def build_hashes(
    ctx: Context,
    stage: Stage,
    settings: Mapping[str, Any],
    hash_function: HashFunction,
    argument: Any,
    documents: Sequence[Dataset],
) -> list[PartRef]:
    """Build the hashes of all parts, row-aligned with the documents, in the order of the sources.

    Args:
        ctx: the run.
        stage: the stage of the data sets.
        settings: what the hashes depend on besides the texts.
        hash_function: module-level; returns a list of uint64 per text.
        argument: its second argument.
        documents: the sources' documents.
    """
    parts = []
    for source in documents:
        spec = DatasetSpec(
            stage, source.source, {**settings, "unicode": UNICODE_VERSION}, (source,)
        )
        units = [
            WorkUnit(
                json_sha256(part.content),
                (part, stage.name, hash_function, argument),
                part.num_rows,
            )
            for part in source.parts
        ]
        parts += build_dataset(ctx, spec, units, hash_part).parts
    return parts


def count_hashes(part: PartRef) -> int:
    """Return the number of hashes in a part from its file's footer; an empty list counts as one."""
    with part.open(TABLE_SUFFIX) as file:
        footer = pq.ParquetFile(file).metadata
    return sum(footer.row_group(k).column(0).num_values for k in range(footer.num_row_groups))


def hash_part(
    part: PartRef, stage: str, hash_function: HashFunction, argument: Any
) -> Iterator[PartResult]:
    """Hash the documents of one part."""
    table = part.table(["id", "url", "text"])
    rows = pa.table({HASH_COLUMN: hash_function(table["text"], argument)})
    ledger = ledger_table(stage, table["id"].to_pylist(), urls=table["url"].to_pylist())
    yield PartResult(rows, ledger)
