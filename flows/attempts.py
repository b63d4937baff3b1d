"""Start a run of a deployment again after an error that may pass: nobody is there to do it by hand."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from prefect.context import FlowRunContext

from flows.retraining import TrainingInProgressError
from infra.errors import UserError
from infra.store.retry import is_transient

# Between attempts. Tasks have tried again after 5 and 30 seconds before (flows.runner).
RETRY_DELAYS_S = (600.0, 1800.0)
# While another run trains the same models: until it has ended, or its machine counts as lost.
TRAINING_POLL_S, TRAINING_WAIT_S = 60.0, 2400.0
# Of flows that do not train: one that hangs must not block the next one for ever.
TIMEOUT_S = 24 * 3600.0
MAX_STARTS = 3  # of one flow run: an automation starts crashed runs again (flows.automations)

T = TypeVar("T")

log = logging.getLogger(__name__)


def run_with_retries(run: Callable[[], T]) -> T:
    """Call a function, again after errors of network and servers if a deployment started this run.

    Raises:
        UserError: if this flow run has crashed so often that another start is of no use.
    """
    context = FlowRunContext.get()
    flow_run = context.flow_run if context is not None else None
    if flow_run is None or flow_run.deployment_id is None:
        return run()
    if flow_run.run_count > MAX_STARTS:
        raise UserError(
            f"this run has crashed {MAX_STARTS} times, so it is not started again; the log of its "
            "process and the memory of the machine may say why"
        )
    for delay in RETRY_DELAYS_S:
        try:
            return _run_after_training(run)
        except Exception as error:
            if not may_pass(error):
                raise
            log.warning("%s; the next attempt is in %.0f minutes", error, delay / 60)
            time.sleep(delay)
    return _run_after_training(run)


def _run_after_training(run: Callable[[], T]) -> T:
    """Call a function; again and again while another run trains the same models."""
    deadline = time.monotonic() + TRAINING_WAIT_S
    while True:
        try:
            return run()
        except TrainingInProgressError as error:
            if time.monotonic() >= deadline:
                raise
            log.warning("%s; it is looked for again every minute", error)
            time.sleep(TRAINING_POLL_S)


def may_pass(error: BaseException) -> bool:
    """Whether the same run may succeed later, without any change."""
    causes = (error, error.__cause__)
    return any(isinstance(item, Exception) and is_transient(item) for item in causes)
