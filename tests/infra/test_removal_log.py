"""Removals in the store: appended, folded in the order of time, never passed over."""

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
from infra.removals.match import Removal, parse_removal
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


def test_what_is_not_removed_cannot_be_lifted(store: Storage) -> None:
    with pytest.raises(RemovalNotFoundError, match=r"removed: nothing"):
        append_restorations(store, "small", [ONE])
    append_removals(store, "small", [ONE])
    with pytest.raises(RemovalNotFoundError, match=r"removed: domain one\.org"):
        append_restorations(store, "small", [ONE, OTHER])
    assert load_removals(store, "small") == (ONE,)


def test_equal_moments_keep_both_records(store: Storage) -> None:
    found = [Removal("domain", f"{number}.org") for number in range(20)]
    for item in found:
        append_removals(store, "small", [item], now=NOON)
    assert set(load_removals(store, "small")) == set(found)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"format": 2, "action": "remove", "removals": [], "recorded": "", "note": null}',
        b'{"format": 1, "action": "removed", "removals": [], "recorded": "", "note": null}',
        b'{"format": 1, "action": "remove", "removals": [{"kind": "x"}], "recorded": ""}',
        b'{"format":1,"action":"restore","removals":[{"kind":"x","value":""}],"recorded":"","note":""}',
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
