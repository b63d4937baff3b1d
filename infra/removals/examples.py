"""Match the examples of a task with removals: by themselves, or by what they were made from."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from infra.dataset.dataset import PartRef
from infra.removals.match import Matches, Removal, match_table
from infra.schemas.examples import SOURCE


def match_examples(table: pa.Table, removals: Sequence[Removal]) -> Matches:
    """Find the removal that matches each example.

    Args:
        table: n examples with ``id`` and the columns of ``infra.schemas.examples.SOURCE``.
        removals: from ``parse_removal``.

    Returns:
        int32[n], as ``match_table`` does.
    """
    matches = match_table(table, removals)
    origins = match_table(pa.table({"id": table["document_id"]}), removals)
    np.copyto(matches, origins, where=matches < 0)
    return matches


def find_removed_examples(part: PartRef, removals: Sequence[Removal]) -> dict[str, Removal]:
    """Return the removal of each removed example of a part, by the example's id."""
    table = part.table(["id", *SOURCE.names])
    matches = match_examples(table, removals).tolist()
    pairs = zip(table["id"].to_pylist(), matches, strict=True)
    return {example: removals[match] for example, match in pairs if match >= 0}
