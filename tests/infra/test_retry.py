import errno

import pytest

from infra.store.retry import StorageUnavailableError, retry


@pytest.mark.parametrize("timeout_s", [0.0, 0.05])
def test_retries_end_at_the_timeout(timeout_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.store.retry.MIN_BACKOFF_S", 0.01)
    attempts: list[int] = []

    def refuse() -> None:
        attempts.append(1)
        raise ConnectionError("refused")

    with pytest.raises(StorageUnavailableError, match="writing x"):
        retry("writing x", refuse, timeout_s)
    assert (len(attempts) > 1) == (timeout_s > 0)

    def missing() -> None:
        attempts.append(1)
        raise FileNotFoundError

    def full() -> None:
        attempts.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    for operation, kind in ((missing, FileNotFoundError), (full, OSError)):
        attempts.clear()
        with pytest.raises(kind):
            retry("reading x", operation, 10)
        assert len(attempts) == 1
