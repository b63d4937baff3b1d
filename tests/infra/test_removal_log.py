"""Removals in the store: appended, independent of order and clocks, never passed over."""

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.removals.log import (
    CorruptRemovalLogError,
    RemovalNotFoundError,
    append_removals,
    append_restorations,
    load_active_removals,
    load_removals,
)
from infra.removals.match import parse_removal
from infra.store.storage import Storage

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ONE, OTHER = parse_removal("domain", "one.org"), parse_removal("url", "http://other.org/x")


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def test_nothing_is_removed_at_first(store: Storage) -> None:
    assert load_active_removals(store, "small") == []


def test_the_narrowest_stands_first_with_time_and_note(store: Storage) -> None:
    append_removals(store, "small", [ONE], "asked by mail", NOON)
    append_removals(store, "small", [OTHER], now=NOON + timedelta(seconds=1))
    assert load_removals(store, "small") == (OTHER, ONE)
    last = load_active_removals(store, "small")[1]
    assert (last.recorded, last.note) == ("2026-01-01T12:00:00+00:00", "asked by mail")
    assert load_removals(store, "another") == ()
    assert load_removals(store, "smal") == ()


def test_a_removal_is_recorded_once(store: Storage) -> None:
    assert append_removals(store, "small", [ONE, ONE], now=NOON) == (ONE,)
    assert append_removals(store, "small", [ONE], "again", NOON + timedelta(days=1)) == ()
    assert append_removals(store, "small", [ONE, OTHER], now=NOON + timedelta(days=2)) == (OTHER,)
    assert len(store.list_files("removals")) == 2
    assert load_active_removals(store, "small")[1].note is None


def test_records_are_appended_and_never_changed(store: Storage) -> None:
    append_removals(store, "small", [ONE, OTHER], now=NOON)
    before = {name: store.read(name) for name in store.list_files("removals")}
    append_restorations(store, "small", [ONE], "a mistake", NOON + timedelta(seconds=1))
    assert load_removals(store, "small") == (OTHER,)
    append_removals(store, "small", [ONE], now=NOON + timedelta(seconds=2))
    assert load_removals(store, "small") == (OTHER, ONE)
    assert load_active_removals(store, "small")[1].recorded == "2026-01-01T12:00:02+00:00"
    assert {name: store.read(name) for name in before} == before
    assert len(store.list_files("removals")) == 3


@pytest.mark.parametrize("skew", [timedelta(minutes=45), timedelta(0), timedelta(days=-400)])
def test_the_clocks_of_other_machines_do_not_matter(store: Storage, skew: timedelta) -> None:
    append_removals(store, "small", [ONE], now=NOON + skew)
    append_restorations(store, "small", [ONE], now=NOON + 2 * skew)
    assert load_removals(store, "small") == ()
    assert append_removals(store, "small", [ONE], "court order", NOON) == (ONE,)
    (entry,) = load_active_removals(store, "small")
    assert entry.note == "court order"
    append_restorations(store, "small", [ONE], now=NOON - skew)
    assert load_removals(store, "small") == ()


def test_a_restoration_does_not_undo_a_removal_that_it_does_not_know(tmp_path: Path) -> None:
    """Two machines work on copies of a store, which are merged later."""
    ours, theirs = Storage(str(tmp_path / "ours")), Storage(str(tmp_path / "theirs"))
    append_removals(ours, "small", [ONE], now=NOON)
    append_removals(theirs, "small", [ONE], "court order", NOON - timedelta(hours=1))
    append_restorations(ours, "small", [ONE], now=NOON + timedelta(hours=1))
    for name in theirs.list_files("removals"):
        ours.write(name, theirs.read(name))
    (entry,) = load_active_removals(ours, "small")
    assert entry.note == "court order"
    append_restorations(ours, "small", [ONE], now=NOON - timedelta(days=1))
    assert load_removals(ours, "small") == ()


@pytest.mark.parametrize("kind", ["local", pytest.param("s3", marks=pytest.mark.e2e)])
def test_no_record_of_many_writers_is_lost(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    store = Storage(str(tmp_path))
    if kind == "s3":
        store = Storage(f"s3://{request.getfixturevalue('s3').bucket}/{uuid.uuid4().hex}")
    append_removals(store, "small", [ONE])

    def work(number: int) -> None:
        own = parse_removal("domain", f"{number}.org")
        append_removals(store, "small", [own, OTHER], now=NOON)
        append_restorations(store, "small", [own], now=NOON)
        append_removals(store, "small", [own], now=NOON)

    run_threads(work, 8)
    expected = {parse_removal("domain", f"{number}.org") for number in range(8)}
    assert set(load_removals(store, "small")) == {ONE, OTHER, *expected}
    append_restorations(store, "small", [OTHER])
    assert set(load_removals(store, "small")) == {ONE, *expected}


def run_threads(work: Callable[[int], None], n: int) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_what_is_not_removed_cannot_be_restored(store: Storage) -> None:
    with pytest.raises(RemovalNotFoundError, match=r"removed: nothing"):
        append_restorations(store, "small", [ONE])
    append_removals(store, "small", [ONE])
    with pytest.raises(RemovalNotFoundError, match=r"removed: domain one\.org"):
        append_restorations(store, "small", [ONE, OTHER])
    assert load_removals(store, "small") == (ONE,)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"format": 1, "action": "remove", "removals": [], "recorded": "", "note": null}',
        b'{"format": 2, "action": "removed", "removals": [], "recorded": "", "note": null}',
        b'{"format": 2, "action": "remove", "removals": [{"kind": "x"}], "recorded": ""}',
        b'{"format":2,"action":"remove","removals":[{"kind":"x","value":""}],"recorded":"","note":""}',
        b'{"format": 2, "action": "restore", "removals": [], "recorded": "", "note": null}',
    ],
)
def test_a_damaged_record_stops_everything(store: Storage, data: bytes) -> None:
    append_removals(store, "small", [ONE])
    store.write("removals/small/20260101-120000-000abcd.json", data)
    with pytest.raises(CorruptRemovalLogError, match="20260101-120000"):
        load_removals(store, "small")


def test_what_was_found_out_about_models_is_no_record(store: Storage) -> None:
    append_removals(store, "small", [ONE])
    store.write("removals/small/models/abc.json", b"{}")
    assert load_removals(store, "small") == (ONE,)
