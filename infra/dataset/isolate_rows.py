"""Apply a function to a table so that a row on which it fails loses no other row."""

import logging
import traceback
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from infra.dataset.ledger import ledger_table
from infra.dataset.stage import PartResult
from infra.errors import UserError

log = logging.getLogger(__name__)

MAX_EVIDENCE_CHARS = 500


def apply_isolating_rows(
    stage: str, table: pa.Table, function: Callable[[pa.Table], PartResult]
) -> PartResult:
    """Apply a function to a table of documents so that a row on which it fails loses no other row.

    If the function raises, the table is halved until each failing row is alone. Such rows become
    ``failed``, with the error's type as the reason and its message as evidence. Errors of the
    machine (memory, files, a missing model) are not caused by a document and are raised.

    Args:
        stage: the stage's name, for the verdicts.
        table: documents, with an ``id`` column.
        function: pure; a table of n rows in, an ``PartResult`` with n verdicts out, each row's
            outcome independent of the other rows.
    """
    try:
        return function(table)
    except (OSError, MemoryError, ImportError, UserError):
        raise  # caused by the machine, not by a document: a retry may succeed
    except Exception as error:
        if table.num_rows == 0:
            raise
        if table.num_rows > 1:
            half = table.num_rows // 2
            left = apply_isolating_rows(stage, table.slice(0, half), function)
            right = apply_isolating_rows(stage, table.slice(half), function)
            return _concat_results(left, right)
        where = traceback.extract_tb(error.__traceback__)[-1]
        log.warning("%s: document %s failed: %r", stage, table["id"][0], error)
        return PartResult(
            function(table.slice(0, 0)).rows,
            ledger_table(
                stage,
                table["id"].to_pylist(),
                reasons=[type(error).__name__],
                failed=[True],
                evidence=[
                    {
                        "error": str(error)[:MAX_EVIDENCE_CHARS],
                        "in": f"{Path(where.filename).name}:{where.name}",
                    }
                ],
            ),
        )


def _concat_results(left: PartResult, right: PartResult) -> PartResult:
    return PartResult(
        pa.concat_tables([left.rows, right.rows]), pa.concat_tables([left.verdicts, right.verdicts])
    )
