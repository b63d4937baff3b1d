"""The spool keeps what was fetched through any end of the process."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.formats.warc import Capture
from tasks.acquire.web.spool import Spool, own_spool

DATE = "2026-01-01T00:00:00Z"


def answer(url: str, body: bytes) -> Capture:
    return Capture(url, DATE, 200, "", [("Content-Type", "text/html")], body)


def filled(folder: Path) -> Spool:
    spool = Spool(folder)
    spool.add_robots("http://h", 200, b"User-agent: *\nDisallow: /\xff")
    spool.add_robots("http://i", None, b"")
    spool.add(answer("http://h/a", b"A" * 500))
    spool.add_failure("http://h/b", "timeout", {"seconds": 3.0})
    spool.add(answer("http://h/c", b"C" * 500))
    spool.close()
    return spool


def test_a_spool_is_read_back(tmp_path: Path) -> None:
    filled(tmp_path)
    spool = Spool(tmp_path)
    assert len(spool) == 3
    assert spool.robots == {
        "http://h": (200, b"User-agent: *\nDisallow: /\xff"),
        "http://i": (None, b""),
    }
    assert spool.failures == {"http://h/b": {"reason": "timeout", "evidence": {"seconds": 3.0}}}
    assert spool.read_capture("http://h/c").payload == b"C" * 500
    assert spool.read_capture("http://h/a").payload == b"A" * 500
    assert "http://h/d" not in spool
    assert spool.read_verdicts() is None
    spool.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(fraction=st.floats(0, 1))
def test_truncation_loses_the_last_record_only(tmp_path: Path, fraction: float) -> None:
    folder = tmp_path / f"{fraction}"
    filled(folder)
    path = folder / "spool.warc.gz"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    spool = Spool(folder)
    had = set(spool.offsets)
    spool.add(answer("http://h/new", b"N"))
    assert spool.read_capture("http://h/new").payload == b"N"
    spool.close()
    again = Spool(folder)
    assert set(again.offsets) == had | {"http://h/new"}
    for url in again.offsets:
        assert again.read_capture(url).payload
    again.close()


def test_verdicts_mark_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    spool = filled(folder)
    spool.write_verdicts(iter([{"url": "http://h/a", "verdict": "kept"}]))
    assert Spool(folder).read_verdicts() == [{"url": "http://h/a", "verdict": "kept"}]


def test_a_folder_stays_after_a_failure_and_goes_after_a_success(tmp_path: Path) -> None:
    folder, waits = tmp_path / "spool" / "x", list[str]()

    def fail() -> None:
        with own_spool(folder, lambda: None):
            filled(folder).close()
            raise ConnectionError

    with pytest.raises(ConnectionError):
        fail()
    assert [path.name for path in folder.parent.iterdir()] == ["x"]
    with own_spool(folder, lambda: waits.append("waits")):
        assert Spool(folder).offsets
    assert list(folder.parent.iterdir()) == []
    assert not waits
