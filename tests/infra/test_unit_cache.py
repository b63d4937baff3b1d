"""The unit cache: what is unchanged is neither read nor written again, and nothing unsound is reused."""

import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import NullReporter
from infra.dataset import code_version
from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.fingerprint import json_sha256
from infra.dataset.ledger import ledger_table
from infra.dataset.manifest import MANIFEST
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.store.storage import Storage
from tests.servers import S3

UPPER = Stage("upper", ("infra.formats.arrow_text",))
ALIGN = Stage("align", ("infra.formats.arrow_text",))
BUILT: list[str] = []


def upper(word: str) -> Iterator[PartResult]:
    """One document per unit."""
    BUILT.append(word)
    rows = pa.table({"id": [word], "text": pa.array([word.upper()], pa.large_string())})
    yield PartResult(rows, ledger_table("upper", [word]))


def align(part: PartRef) -> Iterator[PartResult]:
    """A row per document of a part of another data set."""
    table = part.table(["id"])
    BUILT.append(part.name)
    yield PartResult(table, ledger_table("align", table["id"].to_pylist()))


def context(storage: Storage) -> Context:
    """A run in this process."""
    return Context(storage, 1, DaskCluster(ClusterConfig(workers=0)), NullReporter())


def build(ctx: Context, *words: str, source: str = "site", stage: Stage = UPPER) -> Dataset:
    """A per-source data set with a part per word."""
    units = [WorkUnit(json_sha256(word), (word,), 1) for word in words]
    spec = DatasetSpec(stage, source, {}, external_inputs=tuple(unit.key for unit in units))
    return build_dataset(ctx, spec, units, upper)


def build_aligned(ctx: Context, *inputs: Dataset) -> Dataset:
    """A data set over several sources, row-aligned with their parts."""
    units = [WorkUnit(part.content, (part,), part.num_rows) for d in inputs for part in d.parts]
    return build_dataset(ctx, DatasetSpec(ALIGN, None, {}, inputs), units, align)


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> dict[str, Counter[str]]:
    """Bytes written by kind of file, and files read."""
    counted: dict[str, Counter[str]] = {"written": Counter(), "read": Counter()}
    write, commit, read = Storage.write, Storage.put_if_absent, Storage.read

    def count_write(self: Storage, name: str, data: bytes, **options: Any) -> None:
        counted["written"]["parts" if name.startswith("part-") else "entries"] += len(data)
        write(self, name, data, **options)

    def count_commit(self: Storage, name: str, data: bytes) -> bool:
        counted["written"]["manifests"] += len(data)
        return commit(self, name, data)

    def count_read(self: Storage, name: str, *args: Any) -> bytes:
        counted["read"][name] += 1
        return read(self, name, *args)

    monkeypatch.setattr(Storage, "write", count_write)
    monkeypatch.setattr(Storage, "put_if_absent", count_commit)
    monkeypatch.setattr(Storage, "read", count_read)
    BUILT.clear()
    return counted


@pytest.mark.parametrize(
    ("where", "n_parts"), [("local", 1000), pytest.param("s3", 150, marks=pytest.mark.e2e)]
)
def test_one_more_file_costs_the_bytes_of_that_file(
    where: str,
    n_parts: int,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    traffic: dict[str, Counter[str]],
) -> None:
    url = str(tmp_path)
    if where == "s3":
        server: S3 = request.getfixturevalue("s3")
        url = f"s3://{server.bucket}/{uuid.uuid4().hex}"
    ctx = context(Storage(url))
    words = [f"word{number}" for number in range(n_parts)]
    other = build(ctx, "another", source="other")
    build_aligned(ctx, build(ctx, *words), other)
    first = Counter(traffic["written"])
    traffic["written"].clear()
    traffic["read"].clear()
    BUILT.clear()
    # The new file comes first, so that every other part gets another number.
    grown = build(ctx, "new", *words)
    aligned = build_aligned(ctx, grown, other)
    written = traffic["written"]
    assert len(BUILT) == 2
    assert written["parts"] < 3 * first["parts"] / n_parts
    assert written["entries"] < 3 * first["entries"] / n_parts
    # The manifest lists all parts: under a kilobyte for each, whatever the part holds.
    assert written["manifests"] < 1100 * len(grown.parts + aligned.parts)
    assert not [name for name in traffic["read"] if name.startswith("part-")]
    assert grown.table(["id"])["id"].to_pylist() == ["new", *words]
    assert aligned.table()["id"].to_pylist() == ["new", *words, "another"]
    assert grown.parts[7].verdicts()["id"].to_pylist() == ["word6"]


def test_references_lead_to_the_first_data_set_and_never_form_a_chain(tmp_path: Path) -> None:
    ctx = context(Storage(str(tmp_path)))
    first = build(ctx, "one")
    build(ctx, "two", "one")
    third = build(ctx, "three", "two", "one")
    home = "/".join(first.storage.url.split("/")[-2:])
    assert third.manifest.parts[2].folder == home
    assert third.table()["text"].to_pylist() == ["THREE", "TWO", "ONE"]
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    again = build(context(Storage(str(moved))), "three", "two", "one")
    assert again.manifest == third.manifest
    assert again.table()["text"].to_pylist() == ["THREE", "TWO", "ONE"]


@pytest.mark.parametrize("damage", ["none", "changed", "missing"])
def test_parts_of_a_crashed_run_are_checked_before_use(
    tmp_path: Path, traffic: dict[str, Counter[str]], damage: str
) -> None:
    ctx = context(Storage(str(tmp_path)))
    crashed = build(ctx, "one", "two")
    crashed.storage.remove(MANIFEST)
    name = crashed.parts[0].file("parquet")
    if damage == "changed":
        crashed.storage.write(name, b"something else")
    elif damage == "missing":
        crashed.storage.remove(name)
    BUILT.clear()
    data = build(ctx, "zero", "one", "two")
    built = ["zero"] if damage == "none" else ["zero", "one"]
    assert built == BUILT
    assert traffic["read"]["part-00001.parquet"], "an uncommitted part is read to check it"
    assert data.table()["text"].to_pylist() == ["ZERO", "ONE", "TWO"]


def test_parts_whose_data_set_was_deleted_are_trusted_for_another_that_lists_them(
    tmp_path: Path, traffic: dict[str, Counter[str]]
) -> None:
    ctx = context(Storage(str(tmp_path)))
    build(ctx, "one").storage.remove(MANIFEST)
    build(ctx, "one", "two")
    traffic["read"].clear()
    BUILT.clear()
    data = build(ctx, "one", "two", "three")
    assert BUILT == ["three"]
    assert not [name for name in traffic["read"] if name.startswith("part-")]
    assert data.table()["text"].to_pylist() == ["ONE", "TWO", "THREE"]


def test_no_change_of_code_or_library_acquires_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stage() -> Stage:
        return Stage("acquire", ("infra.formats.arrow_text",), ("scrapy",), False, False)

    ctx = context(Storage(str(tmp_path)))
    first = build(ctx, "one", stage=stage())
    monkeypatch.setattr(code_version, "version", lambda name: "999")
    monkeypatch.setattr(code_version, "module_digests", lambda _: {"changed": "code"})
    BUILT.clear()
    assert build(ctx, "one", stage=stage()).manifest == first.manifest
    assert BUILT == []
    more = build(ctx, "one", "two", stage=stage())
    assert BUILT == ["two"]
    assert more.manifest.provenance["libraries"]["scrapy"] == "999"
    assert first.manifest.provenance["libraries"]["scrapy"] != "999"
