"""One row that breaks a function loses no other."""

import logging
import traceback
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from infra.dataset.ledger import verdicts
from infra.dataset.stage import Outcome
from infra.errors import UserError

log = logging.getLogger(__name__)

EVIDENCE_CHARACTERS = 500


def rowwise(stage: str, table: pa.Table, function: Callable[[pa.Table], Outcome]) -> Outcome:
    """Run a function over a table of documents so that a row that breaks it loses no other.

    When the function raises, the table is halved until the offending rows stand alone; those
    become ``failed`` with the error's type as the reason and its message as evidence. Errors of
    the machine (memory, files, a missing model) are no document's fault and go up.

    Args:
        stage: the stage's name, for the verdicts.
        table: documents with an ``id`` column, at least.
        function: pure; a table of n rows in, an ``Outcome`` with n verdicts out, each row's
            outcome independent of the other rows.
    """
    try:
        return function(table)
    except (OSError, MemoryError, ImportError, UserError):
        raise  # the machine's fault, not a document's: another try may go well
    except Exception as error:
        if table.num_rows == 0:
            raise
        if table.num_rows > 1:
            half = table.num_rows // 2
            left = rowwise(stage, table.slice(0, half), function)
            right = rowwise(stage, table.slice(half), function)
            return _join(left, right)
        where = traceback.extract_tb(error.__traceback__)[-1]
        log.warning("%s: document %s failed: %r", stage, table["id"][0], error)
        return Outcome(
            function(table.slice(0, 0)).kept,
            verdicts(
                stage,
                table["id"].to_pylist(),
                reasons=[type(error).__name__],
                failed=[True],
                evidence=[
                    {
                        "error": str(error)[:EVIDENCE_CHARACTERS],
                        "in": f"{Path(where.filename).name}:{where.name}",
                    }
                ],
            ),
        )


def _join(left: Outcome, right: Outcome) -> Outcome:
    return Outcome(
        pa.concat_tables([left.kept, right.kept]),
        pa.concat_tables([left.verdicts, right.verdicts]),
    )
