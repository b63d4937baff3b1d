from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import NullReporter
from infra.dataset.dataset import Dataset
from infra.dataset.ledger import ledger_table
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.formats.megatron import (
    CorruptShardError,
    TokenShards,
    decode_index,
    encode_index,
    token_dtype,
)
from infra.store.cache_dir import ENV_VAR
from infra.store.storage import Storage
from tests.shard_writer import TokenShardWriter
from tests.tokenize import megatron

PARTS = [[[5, 6, 0], [0]], [], [[7, 8, 9, 0]], [[1, 0], [2, 2, 2, 0], [3, 0]]]
FLAT = [token for part in PARTS for sequence in part for token in sequence]
STAGE = Stage("shards", ("tests.infra.test_megatron",))


def one_part(name: str, sequences: list[list[int]]) -> list[PartResult]:
    writer = TokenShardWriter(token_dtype(100))
    for sequence in sequences:
        writer.add(np.array(sequence))
    ids = [f"{name}{index}" for index in range(len(sequences))]
    table = pa.table({"id": pa.array(ids, pa.string()), "split": ["train"] * len(ids)})
    files = {"train.bin": writer.bin_bytes(), "train.idx": writer.idx_bytes()} if sequences else {}
    return [PartResult(table, ledger_table("shards", ids), files)]


def made(storage: Storage) -> Dataset:
    cluster = DaskCluster(ClusterConfig.model_validate({"workers": 0}))
    units = [WorkUnit(str(n), (f"p{n}d", part)) for n, part in enumerate(PARTS)]
    return build_dataset(
        Context(storage, 0, cluster, NullReporter()), DatasetSpec(STAGE, None, {}), units, one_part
    )


@pytest.fixture
def shards(tmp_path: Path) -> TokenShards:
    return TokenShards(made(Storage(str(tmp_path))), "train")


def test_the_width_of_ids_follows_the_vocabulary() -> None:
    assert token_dtype(65_499) == np.uint16
    assert token_dtype(65_500) == np.int32


@given(
    st.lists(st.lists(st.integers(0, 65_499), min_size=1, max_size=9), min_size=1, max_size=9),
    st.sampled_from([8192, 100_000]),
)
def test_an_independent_reader_finds_every_sequence(
    tmp_path_factory: pytest.TempPathFactory, sequences: list[list[int]], vocabulary: int
) -> None:
    prefix = tmp_path_factory.mktemp("megatron") / "shard"
    writer = TokenShardWriter(token_dtype(vocabulary))
    positions = [writer.add(np.array(sequence)) for sequence in sequences]
    prefix.with_suffix(".bin").write_bytes(writer.bin_bytes())
    prefix.with_suffix(".idx").write_bytes(writer.idx_bytes())
    assert megatron.read(prefix) == sequences
    assert [index for index, _ in positions] == list(range(len(sequences)))
    flat = [token for sequence in sequences for token in sequence]
    for (_, offset), sequence in zip(positions, sequences, strict=True):
        assert flat[offset : offset + len(sequence)] == sequence


def test_offsets_pass_two_gigabytes() -> None:
    index = decode_index(encode_index([2**31 - 1, 2**31 - 1, 1], token_dtype(2**17)))
    assert index.sequence_pointers.tolist() == [0, 4 * (2**31 - 1), 8 * (2**31 - 1)]


@pytest.mark.parametrize(
    "data",
    [b"", b"x" * 50, encode_index([3, 4], token_dtype(9))[:-1]],
    ids=["empty", "other", "cut off"],
)
def test_a_file_that_is_not_an_index_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptShardError):
        decode_index(data)


def test_a_window_crosses_the_ends_of_shards(shards: TokenShards) -> None:
    assert len(shards) == len(FLAT)
    for start in range(len(FLAT) + 1):
        for length in range(len(FLAT) - start + 1):
            assert shards.read(start, length).tolist() == FLAT[start : start + length]


def test_a_batch_of_windows(shards: TokenShards) -> None:
    batch = shards.read_batch([0, 3, 7], 4)
    assert batch.dtype == np.int64
    assert batch.tolist() == [FLAT[0:4], FLAT[3:7], FLAT[7:11]]


@pytest.mark.parametrize(("start", "length"), [(-1, 2), (0, 99), (len(FLAT), 1)])
def test_a_window_outside_the_split_is_refused(
    shards: TokenShards, start: int, length: int
) -> None:
    with pytest.raises(IndexError):
        shards.read(start, length)


def test_tokens_lead_to_documents_and_back(shards: TokenShards) -> None:
    assert shards.ids == ["p0d0", "p0d1", "p2d0", "p3d0", "p3d1", "p3d2"]
    assert [shards.document_at(position) for position in range(len(FLAT))] == [
        *[0, 0, 0, 1, 2, 2, 2, 2, 3, 3],
        *[4, 4, 4, 4, 5, 5],
    ]
    assert shards.find_documents("p3d1") == [4]
    assert shards.document_range(4) == (10, 14)
    assert shards.read_document(4).tolist() == [2, 2, 2, 0]
    with pytest.raises(IndexError):
        shards.document_at(len(FLAT))


def test_a_split_without_documents_is_empty(tmp_path: Path) -> None:
    shards = TokenShards(made(Storage(str(tmp_path))), "validation")
    assert (len(shards), shards.num_documents, shards.ids) == (0, 0, [])


def test_shards_of_a_remote_store_are_copied_once(tmp_path: Path) -> None:
    dataset = made(Storage("memory://tokens"))
    cache = tmp_path / "cache"
    assert TokenShards(dataset, "train", cache).read(0, len(FLAT)).tolist() == FLAT
    copies = sorted(path.stat().st_ino for path in cache.iterdir())
    assert len(copies) == 3
    assert TokenShards(dataset, "train", cache).read(2, 9).tolist() == FLAT[2:11]
    assert sorted(path.stat().st_ino for path in cache.iterdir()) == copies


def test_an_index_that_does_not_fit_its_shard_is_refused(tmp_path: Path) -> None:
    dataset = made(Storage(str(tmp_path)))
    part = dataset.parts[0]
    part.storage.write(part.file("train.bin"), b"\x00" * 6)
    with pytest.raises(CorruptShardError, match="3 tokens"):
        TokenShards(dataset, "train")


@pytest.mark.parametrize("half", ["train.bin", "train.idx", "parquet"])
def test_a_missing_shard_is_named(tmp_path: Path, half: str) -> None:
    dataset = made(Storage(str(tmp_path)))
    name = dataset.parts[0].file(half)
    (tmp_path / dataset.storage.url / name).unlink()
    with pytest.raises(CorruptShardError, match=name):
        TokenShards(dataset, "train").read_columns(["id"])


def test_an_index_that_is_damaged_is_named(tmp_path: Path) -> None:
    dataset = made(Storage(str(tmp_path)))
    part = dataset.parts[0]
    part.storage.write(part.file("train.idx"), b"MMIDIDX")
    with pytest.raises(CorruptShardError, match=r"train\.idx"):
        TokenShards(dataset, "train")


def test_blocks_of_remote_shards_are_cached_where_only_their_user_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder in the temporary folder would be anybody's: blocks in it are not hashed again."""
    monkeypatch.delenv(ENV_VAR, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "shared"))
    shards = TokenShards(made(Storage("memory://shards-of-a-user")), "train")
    assert shards.read(0, len(FLAT)).tolist() == FLAT
    assert [*(tmp_path / "home" / ".cache" / "gristmill" / "tokens").iterdir()]
    assert not (tmp_path / "shared").exists()
