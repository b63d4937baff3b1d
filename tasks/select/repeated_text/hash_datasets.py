"""Data sets of hashes to compare: a list of hashes per document, part by part.

They depend on the document alone, so a new part does not change the hashes of other parts. Text is
hashed character by character, modeled on the last steps of XXH64.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.compute.jit import jit
from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.fingerprint import json_sha256
from infra.dataset.ledger import ledger_table
from infra.dataset.manifest import TABLE_SUFFIX
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.formats.unicode_tables import UNICODE_VERSION

HASH_COLUMN = "hashes"
SEED = np.uint64(0x27D4EB2F165667C5)
_P1 = np.uint64(0x9E3779B185EBCA87)
_P5 = np.uint64(0x27D4EB2F165667C5)
HashFunction = Callable[[Any, Any], "pa.Array[Any]"]  # of a column of texts


@jit
def update_hash(value: np.uint64, point: int) -> np.uint64:
    """Return the hash extended by one character."""
    value ^= (np.uint64(point) + np.uint64(1)) * _P5
    value = np.uint64(value << np.uint64(11)) | np.uint64(value >> np.uint64(53))
    return np.uint64(value * _P1)


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
        hash_function: module-level; takes a column of texts and ``argument``, and returns a list of
            uint64 per text.
        argument: its second argument.
        documents: of all sources.
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
