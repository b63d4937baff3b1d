"""Which runs of a deployment are tried again."""

from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from flows.attempts import MAX_STARTS, run_with_retries
from flows.retraining import TrainingInProgressError
from flows.runner import RunFailedError
from infra.errors import UserError


def start(
    monkeypatch: pytest.MonkeyPatch,
    errors: Sequence[Exception],
    deployment: str | None = "d",
    run_count: int = 1,
) -> list[Exception]:
    """Run a flow whose attempts raise these errors; return those that were not raised."""
    flow_run = SimpleNamespace(deployment_id=deployment, run_count=run_count)
    context = SimpleNamespace(get=lambda: SimpleNamespace(flow_run=flow_run))
    monkeypatch.setattr("flows.attempts.FlowRunContext", context)
    monkeypatch.setattr("flows.attempts.RETRY_DELAYS_S", (0.0, 0.0))
    monkeypatch.setattr("flows.attempts.TRAINING_POLL_S", 0.0)
    left = list(errors)

    def attempt() -> list[Exception]:
        if left:
            raise left.pop(0)
        return left

    return run_with_retries(attempt)


def failed(cause: Exception) -> RunFailedError:
    error = RunFailedError("acquire a: failed")
    error.__cause__ = cause
    return error


def test_errors_that_may_pass_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [failed(ConnectionResetError("reset")), TrainingInProgressError("another run")]
    assert start(monkeypatch, errors) == []


def test_a_run_waits_for_another_training_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert start(monkeypatch, [TrainingInProgressError(str(n)) for n in range(20)]) == []
    monkeypatch.setattr("flows.attempts.TRAINING_WAIT_S", 0.0)
    with pytest.raises(TrainingInProgressError):
        start(monkeypatch, [TrainingInProgressError("another run")])


@pytest.mark.parametrize("error", [UserError("wrong"), failed(ValueError("a bug"))])
def test_other_errors_are_final(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    with pytest.raises(UserError) as raised:
        start(monkeypatch, [error])
    assert raised.value is error


def test_the_attempts_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConnectionResetError):
        start(monkeypatch, [ConnectionResetError(str(n)) for n in range(3)])


def test_a_run_of_a_terminal_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConnectionResetError):
        start(monkeypatch, [ConnectionResetError("once")], deployment=None)


def test_a_run_that_crashes_every_time_ends_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert start(monkeypatch, [], run_count=MAX_STARTS) == []
    with pytest.raises(UserError):
        start(monkeypatch, [], run_count=MAX_STARTS + 1)
