"""Deleting what no recipe needs: shared parts, crashed runs, and concurrent runs."""

import json
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.compute import lease as leases
from infra.compute.lease import DELETION, RunLease, announce_deletion, list_leases, read_lease
from infra.dataset.dataset import Dataset, open_dataset
from infra.dataset.manifest import MANIFEST, DatasetNotFoundError
from infra.dataset.stage import Context
from infra.errors import UserError
from infra.runs import gc
from infra.runs.gc import collect_needed, delete_unneeded, find_deletions
from infra.runs.run_records import COMPLETED, FAILED, RunRecord, StageRecord, save_run
from infra.store.storage import Storage
from tests.infra.test_unit_cache import BUILT, build, build_aligned, context
from tests.limits import wait_for
from tests.servers import S3


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.e2e)])
def ctx(request: pytest.FixtureRequest, tmp_path: Path) -> Context:
    """A run on an empty store of either kind."""
    if request.param == "local":
        return context(Storage(str(tmp_path)))
    server: S3 = request.getfixturevalue("s3")
    return context(Storage(f"s3://{server.bucket}/{uuid.uuid4().hex}"))


def record(
    ctx: Context, run: str, *data: Dataset, recipe: str = "r", state: str = COMPLETED
) -> None:
    """Save the record of a run that made these data sets."""
    stages = [StageRecord.from_dataset(each, seconds=1.0, cached=False) for each in data]
    save_run(ctx.storage, RunRecord(recipe, run, "2026-01-01", 1.0, state, stages=stages))


def is_committed(data: Dataset) -> bool:
    """Whether the data set is still there, with all its parts."""
    try:
        return bool(open_dataset(data.storage).table().num_rows == data.counts.kept)
    except DatasetNotFoundError:
        return False


def folder(data: Dataset) -> str:
    """Its folder below the storage root."""
    return "/".join(data.storage.url.split("/")[-2:])


def test_data_of_recent_completed_runs_can_stay(ctx: Context) -> None:
    old, failed, new = build(ctx, "one"), build(ctx, "two"), build(ctx, "three")
    record(ctx, "20260101-120000-000aaaa", old)
    record(ctx, "20260102-120000-000aaaa", failed, state=FAILED)
    record(ctx, "20260103-120000-000aaaa", new)
    delete_unneeded(ctx.storage, ["r"], since=datetime(2026, 1, 1, tzinfo=UTC))
    assert is_committed(old)
    assert not is_committed(failed)
    delete_unneeded(ctx.storage, ["r"], since=datetime(2026, 1, 2, tzinfo=UTC))
    assert not is_committed(old)
    assert is_committed(new)


def test_an_old_data_set_goes_and_the_parts_that_a_new_one_lists_stay(ctx: Context) -> None:
    old = build(ctx, "one", "two")
    new = build(ctx, "two", "three")
    aligned = build_aligned(ctx, new)
    ctx.storage.write("my-input/site-0123456789abcdef/part-00000.parquet", b"not ours")
    ctx.storage.write("work/align/0123456789abcdef/groups/0.json", b"{}")
    record(ctx, "1", old)
    record(ctx, "2", new, aligned)
    planned = find_deletions(ctx.storage, collect_needed(ctx.storage, ["r"]))
    assert is_committed(old), "looking deletes nothing"
    deleted = delete_unneeded(ctx.storage, ["r"])
    assert deleted == planned
    assert {(item.kind, item.path) for item in deleted} == {
        ("parts", folder(old)),
        ("unit cache", "unit_cache/upper"),
        ("work", "work/align/0123456789abcdef"),
    }
    assert all(item.bytes > 0 for item in deleted)
    assert not is_committed(old)
    assert old.storage.list_files() == ["part-00001.parquet", "part-00001.verdicts.parquet"]
    assert is_committed(new)
    assert is_committed(aligned)
    assert ctx.storage.exists("my-input/site-0123456789abcdef/part-00000.parquet")
    assert delete_unneeded(ctx.storage, ["r"]) == []
    BUILT.clear()
    build(ctx, "one", "two", "three", "four")
    assert BUILT == ["one", "four"], "what was kept is reused"


def test_only_named_recipes_are_kept(ctx: Context) -> None:
    mine, other = build(ctx, "one"), build(ctx, "one", "two", source="other")
    record(ctx, "1", mine)
    record(ctx, "2", other, recipe="other")
    assert collect_needed(ctx.storage, ["r"]).others == {"other"}
    assert delete_unneeded(ctx.storage, ["r", "other"]) == []
    delete_unneeded(ctx.storage, ["r"])
    assert is_committed(mine)
    assert not is_committed(other)
    with pytest.raises(UserError, match="'typo'"):
        delete_unneeded(ctx.storage, ["typo"])


def test_a_failed_run_does_not_cost_the_last_completed_one(ctx: Context) -> None:
    good, partial = build(ctx, "one"), build(ctx, "two")
    record(ctx, "1", good)
    record(ctx, "2", partial, state=FAILED)
    assert delete_unneeded(ctx.storage, ["r"]) == []
    assert is_committed(good)
    assert is_committed(partial)


def test_a_needed_manifest_that_cannot_be_read_stops_everything(ctx: Context) -> None:
    old, new = build(ctx, "one"), build(ctx, "two")
    aligned = build_aligned(ctx, new)
    record(ctx, "1", aligned)
    new.storage.write(MANIFEST, b"{")
    with pytest.raises(UserError, match=MANIFEST):
        delete_unneeded(ctx.storage, ["r"])
    assert is_committed(old)


@pytest.mark.parametrize("ended", [True, False])
def test_what_a_crashed_run_made_stays_until_another_run_of_its_recipe_ends(
    ctx: Context, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    first = build(ctx, "zero")
    record(ctx, "1", first)
    half = build(ctx, "one", "two")
    half.storage.remove(MANIFEST)
    work = f"work/upper/{folder(half)[-16:]}/groups/0.json"
    ctx.storage.write(work, b"{}")
    lease = RunLease(ctx.storage, "r", "2")
    lease.hold([folder(half)])
    if ended:
        lease.close(completed=False)
    else:
        lease._renewal.stop()  # its process was killed
        monkeypatch.setattr(leases, "TIMEOUT_S", -1.0)
    assert [each.is_live for each in list_leases(ctx.storage).values()] == [False]
    assert delete_unneeded(ctx.storage, ["r"]) == []
    record(ctx, "3", first)
    assert {item.kind for item in delete_unneeded(ctx.storage, ["r"])} == {
        "unfinished",
        "unit cache",
        "work",
    }
    assert half.storage.list_files() == []
    assert not ctx.storage.exists(work)
    assert list_leases(ctx.storage) == {}


def delete_meanwhile(
    monkeypatch: pytest.MonkeyPatch, ctx: Context, action: Callable[[], None]
) -> list[gc.Deletion]:
    """Delete; the action comes after ``gc`` has chosen what to delete, before it announces it."""

    @contextmanager
    def announce(storage: Storage, folders: Sequence[str]) -> Iterator[None]:
        action()
        with announce_deletion(storage, folders):
            yield

    monkeypatch.setattr(gc, "announce_deletion", announce)
    return delete_unneeded(ctx.storage, ["r"])


def test_what_a_running_run_takes_into_use_is_spared(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(ctx, "1", build(ctx, "zero"))
    old = build(ctx, "one")
    running = RunLease(ctx.storage, "another recipe", "2")
    assert delete_meanwhile(monkeypatch, ctx, lambda: running.hold([folder(old)])) == []
    assert is_committed(old)
    running.close(completed=True)
    delete_unneeded(ctx.storage, ["r"])
    assert not is_committed(old)


def test_what_a_run_commits_just_before_the_deletion_stays(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(ctx, "1", build(ctx, "zero"))
    build(ctx, "one").storage.remove(MANIFEST)
    made: list[Dataset] = []

    def finish() -> None:
        made.append(build(ctx, "one", "two"))
        record(ctx, "2", made[0])

    delete_meanwhile(monkeypatch, ctx, finish)
    assert made[0].manifest.parts[0].folder is not None
    assert is_committed(made[0])


def test_a_run_waits_for_a_deletion_and_makes_what_is_missing(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "POLL_INTERVAL_S", 0.01)
    old = build(ctx, "one")
    running = RunLease(ctx.storage, "r", "1")
    held = threading.Event()

    def hold() -> None:
        running.hold([folder(old)])
        held.set()

    with announce_deletion(ctx.storage, [folder(old)]):
        with pytest.raises(UserError, match="another gc"), announce_deletion(ctx.storage, []):
            pass
        running.hold(["upper/site-of-another"])  # nothing that is deleted: no wait
        thread = threading.Thread(target=hold)
        thread.start()
        assert not held.wait(0.3)
    thread.join()
    assert held.is_set()
    running.close(completed=True)


def test_an_announcement_of_a_dead_process_is_ignored(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    with announce_deletion(ctx.storage, ["a/b-0"]):
        left = ctx.storage.read(DELETION)
    with subprocess.Popen(["true"]) as process:
        process.wait()
    ctx.storage.write(DELETION, json.dumps({**json.loads(left), "pid": process.pid}).encode())
    found = read_lease(ctx.storage, DELETION)
    assert found is not None
    assert not found.is_live
    running = RunLease(ctx.storage, "r", "1")
    running.hold(["a/b-0"])
    running.close(completed=True)
    with announce_deletion(ctx.storage, []):
        pass


def test_a_lease_is_renewed_and_another_host_is_judged_by_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_INTERVAL_S", 0.02)
    storage = Storage(str(tmp_path))
    running = RunLease(storage, "r", "1")
    (first,) = list_leases(storage).values()
    wait_for(lambda: list_leases(storage).popitem()[1].renewed != first.renewed)
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    lives = [first.is_live]
    monkeypatch.setattr(leases, "TIMEOUT_S", -1.0)
    assert [*lives, first.is_live] == [True, False]
    running.close(completed=True)
    assert list_leases(storage) == {}
