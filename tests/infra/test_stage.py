"""The stage engine: conservation, reuse part by part, races, and what a reader refuses."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import NullReporter
from infra.dataset.dataset import Dataset, open_dataset
from infra.dataset.fingerprint import json_sha256
from infra.dataset.isolate_rows import apply_isolating_rows
from infra.dataset.ledger import ledger_table
from infra.dataset.manifest import (
    MANIFEST,
    Counts,
    DatasetNotFoundError,
    FileRecord,
    IntegrityError,
    Manifest,
)
from infra.dataset.stage import (
    Context,
    DatasetSpec,
    PartResult,
    Stage,
    WorkUnit,
    build_dataset,
    commit,
)
from infra.store.storage import Storage


class ElsewhereCluster(DaskCluster):
    """A worker on another machine, whose files are not on this one."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(ClusterConfig.model_validate({"workers": 0}))
        self._storage = storage

    @property
    def is_local(self) -> bool:
        return False

    def map(
        self, function: Callable[..., Any], payloads: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Any]]:
        yield from super().map(function, payloads)
        self._storage.remove_tree()


STAGE = Stage("shout", ("infra.formats.arrow_text",))
CALLS: list[str] = []


def shout(words: list[str]) -> Iterator[PartResult]:
    """Upper-case words; drop short ones."""
    CALLS.append(" ".join(words))
    reasons = [None if len(word) > 2 else "short" for word in words]
    kept = [word.upper() for word in words if len(word) > 2]
    yield PartResult(
        pa.table({"id": kept, "text": pa.array(kept, pa.large_string())}),
        ledger_table("shout", words, reasons=reasons),
    )


def forget(words: list[str]) -> Iterator[PartResult]:
    """Lose a row without a verdict."""
    yield PartResult(pa.table({"id": words[1:]}), ledger_table("shout", words))


def swallow(words: list[str]) -> Iterator[PartResult]:
    """Give verdicts on fewer documents than the input has."""
    yield PartResult(pa.table({"id": words[1:]}), ledger_table("shout", words[1:]))


def context(path: Path) -> Context:
    """A run in this process."""
    cluster = DaskCluster(ClusterConfig.model_validate({"workers": 0}))
    return Context(Storage(str(path)), 1, cluster, NullReporter())


def units(*texts: str) -> list[WorkUnit]:
    """A unit per text."""
    return [WorkUnit(json_sha256(text), (text.split(),), len(text.split())) for text in texts]


def snapshot(data: Dataset) -> dict[str, bytes]:
    """All bytes of a data set's folder."""
    return {name: data.storage.read(name) for name in data.storage.list_files()}


def test_counts_of_a_stage_add_up_and_are_committed(tmp_path: Path) -> None:
    data = build_dataset(
        context(tmp_path), DatasetSpec(STAGE, "site", {}), units("one to three", "four"), shout
    )
    assert data.counts == Counts(4, 3, {"short": 1}, {})
    again = open_dataset(data.storage)
    assert again.manifest == data.manifest
    assert again.table()["text"].to_pylist() == ["ONE", "THREE", "FOUR"]
    assert [part.record.text_bytes for part in again.parts] == [8, 4]
    ledger = again.parts[0].verdicts()
    assert ledger["reason"].to_pylist() == [None, "short", None]


@pytest.mark.parametrize("lossy", [forget, swallow])
def test_a_stage_that_loses_a_document_commits_nothing(tmp_path: Path, lossy: object) -> None:
    spec = DatasetSpec(STAGE, None, {})
    with pytest.raises(IntegrityError):
        build_dataset(context(tmp_path), spec, units("one two three"), lossy)  # type: ignore[arg-type]
    with pytest.raises(DatasetNotFoundError):
        open_dataset(Storage(str(tmp_path)).subdir(*spec.folder.split("/")))


def test_work_is_done_once_part_by_part(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    CALLS.clear()
    first = build_dataset(
        ctx, DatasetSpec(STAGE, "site", {}), units("one two", "three four"), shout
    )
    assert len(CALLS) == 2
    # The commit is lost but the unit cache entries exist: nothing is computed again.
    first.storage.remove(MANIFEST)
    assert snapshot(
        build_dataset(ctx, DatasetSpec(STAGE, "site", {}), units("one two", "three four"), shout)
    ) == (snapshot(first))
    assert len(CALLS) == 2
    # A unit more, before the others: only it is computed, and the old parts move up.
    other = build_dataset(
        ctx, DatasetSpec(STAGE, "other", {}), units("zero", "one two", "three four"), shout
    )
    assert len(CALLS) == 3
    assert other.table()["id"].to_pylist() == ["ZERO", "ONE", "TWO", "THREE", "FOUR"]
    # Another configuration is other work.
    build_dataset(
        ctx, DatasetSpec(STAGE, "site", {"loud": True}), units("one two", "three four"), shout
    )
    assert len(CALLS) == 5


def test_a_damaged_part_is_made_again_instead_of_reused(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    first = build_dataset(ctx, DatasetSpec(STAGE, "site", {}), units("one two"), shout)
    whole = snapshot(first)
    first.storage.remove(first.parts[0].file("parquet"))
    first.storage.remove(MANIFEST)
    assert (
        snapshot(build_dataset(ctx, DatasetSpec(STAGE, "site", {}), units("one two"), shout))
        == whole
    )


def test_two_writers_leave_one_valid_result(tmp_path: Path) -> None:
    data = build_dataset(context(tmp_path), DatasetSpec(STAGE, "site", {}), units("one two"), shout)
    assert commit(data.storage, data.manifest).manifest == data.manifest
    part = data.manifest.parts[0]
    changed = {**part.files, "parquet": FileRecord(part.files["parquet"].name, 1, "0" * 64)}
    with pytest.raises(IntegrityError, match="different bytes"):
        commit(data.storage, replace(data.manifest, parts=[replace(part, files=changed)]))


def test_results_of_racing_crawls_never_mix(tmp_path: Path) -> None:
    outside = Stage("shout", ("infra.formats.arrow_text",), deterministic=False)
    data = build_dataset(
        context(tmp_path), DatasetSpec(outside, "site", {}), units("one two"), shout
    )
    name = data.parts[0].file("parquet")
    assert name.startswith("part-00000.")
    assert name != "part-00000.parquet"
    assert data.table()["id"].to_pylist() == ["ONE", "TWO"]


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "part-00000.parquet").write_bytes(b"half")
    with pytest.raises(DatasetNotFoundError):
        open_dataset(Storage(str(tmp_path)))


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps({"format": 1}))
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        open_dataset(Storage(str(tmp_path)))


def test_counts_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(IntegrityError, match="3 documents went in"):
        DatasetSpec(STAGE, None, {}).manifest([], {}, {}, Counts(3, 1, {"a": 1}, {}))


def test_a_row_that_fails_loses_no_other() -> None:
    def fragile(table: pa.Table) -> PartResult:
        if "bad" in table["id"].to_pylist():
            raise RuntimeError("cannot read this")
        return PartResult(table, ledger_table("fragile", table["id"].to_pylist()))

    outcome = apply_isolating_rows("fragile", pa.table({"id": ["a", "bad", "b", "c"]}), fragile)
    assert outcome.rows["id"].to_pylist() == ["a", "b", "c"]
    assert outcome.verdicts["id"].to_pylist() == ["a", "bad", "b", "c"]
    assert Counts.from_ledger(outcome.verdicts) == Counts(4, 3, {}, {"RuntimeError": 1})
    assert "cannot read this" in str(outcome.verdicts["evidence"][1])


def test_an_error_of_the_machine_fails_no_document() -> None:
    def starved(table: pa.Table) -> PartResult:
        raise MemoryError(table.num_rows)

    with pytest.raises(MemoryError):
        apply_isolating_rows("starved", pa.table({"id": ["a", "b"]}), starved)


def test_a_flipped_byte_is_made_again_instead_of_reused(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    first = build_dataset(ctx, DatasetSpec(STAGE, "site", {}), units("one two"), shout)
    whole = snapshot(first)
    name = first.parts[0].file("parquet")
    data = bytearray(whole[name])
    data[len(data) // 2] ^= 1
    first.storage.write(name, bytes(data))
    first.storage.remove(MANIFEST)
    assert (
        snapshot(build_dataset(ctx, DatasetSpec(STAGE, "site", {}), units("one two"), shout))
        == whole
    )


def test_manifests_survive_the_round_trip(tmp_path: Path) -> None:
    data = build_dataset(context(tmp_path), DatasetSpec(STAGE, None, {"a": 1}), units("one"), shout)
    assert Manifest.from_bytes(data.manifest.to_bytes(), "x") == data.manifest


class Elsewhere(DaskCluster):
    """A cluster whose workers are on other machines."""

    is_local = False


@pytest.mark.parametrize("kind", [DaskCluster, Elsewhere])
@pytest.mark.parametrize("killed", [False, True])
def test_what_is_committed_survives_a_power_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[DaskCluster], *, killed: bool
) -> None:
    cluster = kind(ClusterConfig.model_validate({"workers": 0}))
    ctx = replace(context(tmp_path), cluster=cluster)
    work = DatasetSpec(STAGE, "site", {}), units("one two", "three four"), shout
    safe: set[tuple[str, str]] = set()
    put, flush, put_new = Storage.write, Storage.fsync, Storage.put_if_absent

    def dies(self: Storage, name: str) -> None:
        raise KeyboardInterrupt(self.url, name)

    def flushes(self: Storage, name: str) -> None:
        flush(self, name)
        safe.add((self.url, name))

    def puts(self: Storage, name: str, data: bytes, *, durable: bool = True) -> None:
        put(self, name, data, durable=durable)
        if durable:
            safe.add((self.url, name))

    def commits(self: Storage, name: str, data: bytes) -> bool:
        files = {(self.url, file.name) for file in Manifest.from_bytes(data, name).all_files}
        assert len(files) == 4
        assert files <= safe
        return put_new(self, name, data)

    if killed:  # after the parts were written, before they were flushed
        with monkeypatch.context() as patch:
            patch.setattr(Storage, "fsync", dies)
            with pytest.raises(KeyboardInterrupt):
                build_dataset(context(tmp_path), *work)
    monkeypatch.setattr(Storage, "fsync", flushes)
    monkeypatch.setattr(Storage, "write", puts)
    monkeypatch.setattr(Storage, "put_if_absent", commits)
    CALLS.clear()
    data = build_dataset(ctx, *work)
    assert len(CALLS) == (0 if killed else 2)
    assert open_dataset(data.storage).manifest == data.manifest


def test_parts_that_were_written_on_another_machine_are_not_committed(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    ctx = Context(storage, 0, ElsewhereCluster(storage), NullReporter())
    spec = DatasetSpec(STAGE, "x", {})
    with pytest.raises(IntegrityError, match="is not here"):
        build_dataset(ctx, spec, [WorkUnit("one", (["alpha", "beta"],))], shout)
    assert not storage.exists(f"{spec.folder}/{MANIFEST}")
