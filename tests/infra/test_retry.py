import errno

import pytest

from infra.store.retry import StorageUnavailableError, retry


@pytest.mark.parametrize("pauses", [0.0, 0.05])
def test_patience_has_an_end(pauses: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.store.retry.MIN_BACKOFF_S", 0.01)
    tried: list[int] = []

    def refuse() -> None:
        tried.append(1)
        raise ConnectionError("refused")

    told = r"writing x: the store has not answered for 0 s \(ConnectionError: refused\)"
    with pytest.raises(StorageUnavailableError, match=told):
        retry("writing x", refuse, pauses)
    assert (len(tried) > 1) == (pauses > 0)

    def missing() -> None:
        tried.append(1)
        raise FileNotFoundError

    def full() -> None:
        tried.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    for do, kind in ((missing, FileNotFoundError), (full, OSError)):
        tried.clear()
        with pytest.raises(kind):
            retry("reading x", do, 10)
        assert len(tried) == 1
