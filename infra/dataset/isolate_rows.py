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
# More failing rows of one table than this are not the fault of the rows.
MIN_FAILED, MAX_FAILED_FRACTION = 10, 0.1


def apply_isolating_rows(
    stage: str, table: pa.Table, function: Callable[[pa.Table], PartResult]
) -> PartResult:
    """Apply a function to a table of documents so that a row on which it fails loses no other row.

    If the function raises, the table is halved until each failing row is alone. Such rows become
    ``failed``, with the error's type as the reason and its message as evidence. Errors of the
    machine (memory, files, a missing model) are not caused by a document and are raised. So is the
    first error if many rows fail: then the function is at fault.

    Args:
        stage: the stage's name, for the verdicts.
        table: documents, with an ``id`` column.
        function: pure; a table of n rows in, an ``PartResult`` with n verdicts out, each row's
            outcome independent of the other rows.
    """
    max_failed = max(MIN_FAILED, int(MAX_FAILED_FRACTION * table.num_rows))
    errors: list[Exception] = []

    def apply(rows: pa.Table) -> PartResult:
        try:
            return function(rows)
        except (OSError, MemoryError, ImportError, UserError):
            raise  # caused by the machine, not by a document: a retry may succeed
        except Exception as error:
            if rows.num_rows == 0:
                raise
            if rows.num_rows > 1:
                half = rows.num_rows // 2
                left, right = apply(rows.slice(0, half)), apply(rows.slice(half))
                return PartResult(
                    pa.concat_tables([left.rows, right.rows]),
                    pa.concat_tables([left.verdicts, right.verdicts]),
                )
            log.warning("%s: document %s failed: %r", stage, rows["id"][0], error)
            errors.append(error)
            if len(errors) > max_failed:
                errors[0].add_note(
                    f"{stage}: more than {max_failed:,} of {table.num_rows:,} documents of one part "
                    f"fail. This is a bug of the stage, not of the documents: please report it"
                )
                raise _TooManyFailed from errors[0]
            return PartResult(function(rows.slice(0, 0)).rows, _failed_verdict(stage, rows, error))

    try:
        return apply(table)
    except _TooManyFailed:
        raise errors[0] from None


class _TooManyFailed(BaseException):
    """Ends the search for failing rows; no `Exception`, so that it is not taken for one of them."""


def _failed_verdict(stage: str, row: pa.Table, error: Exception) -> pa.Table:
    where = traceback.extract_tb(error.__traceback__)[-1]
    evidence = {
        "error": str(error)[:MAX_EVIDENCE_CHARS],
        "in": f"{Path(where.filename).name}:{where.name}",
    }
    return ledger_table(
        stage,
        row["id"].to_pylist(),
        reasons=[type(error).__name__],
        failed=[True],
        evidence=[evidence],
    )
