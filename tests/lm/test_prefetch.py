import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from infra.dataset.dataset import Dataset
from infra.errors import UserError
from infra.formats.megatron import TRAIN, TokenShards
from infra.store.storage import Storage
from lm.data.loader import DataLoader, build_loader
from lm.data.prefetch import FETCH_THREADS
from tests.lm.corpora import tiny, token_shards
from tests.servers import S3

BLOCK = 64  # bytes
CHOICES: list[dict[str, Any]] = [
    {},
    {"packing": "best_fit_masked"},
    {"shuffle_window_tokens": 700},
    {
        "shuffle_window_tokens": 900,
        "mixture": {"books": 1, "site": 2},
        "packing": "best_fit_masked",
    },
]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("infra.formats.megatron", "lm.data.prefetch"):
        monkeypatch.setattr(f"{module}.BLOCK_BYTES", BLOCK)
    monkeypatch.setattr("lm.data.prefetch.SAMPLES_PER_SCAN", 16)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return token_shards(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def remote() -> Dataset:
    return token_shards(f"memory://stream-{uuid4().hex}")


def size(cache: Path) -> int:
    total = 0
    for path in cache.iterdir():
        with suppress(FileNotFoundError):  # removed meanwhile
            total += 0 if path.name.startswith(".") else path.stat().st_size
    return total


def wait_until_idle(cache: Path, pause_s: float = 1.0) -> set[str]:
    """Return the names in the cache when nothing was fetched for a while."""
    deadline, names = time.monotonic() + 60, set[str]()
    while time.monotonic() < deadline:
        last, names = names, {path.name for path in cache.iterdir()}
        if names == last and not any(name.startswith(".") and name != ".lock" for name in names):
            return names
        time.sleep(pause_s)
    raise AssertionError("the cache is still being filled")


def digests(feed: DataLoader, steps: int = 120) -> Iterator[int]:
    try:
        for _ in range(steps):
            yield next(feed).digest
    finally:
        feed.close()


@pytest.mark.parametrize("choice", CHOICES)
def test_rows_are_those_of_local_shards(
    local: Dataset, remote: Dataset, tmp_path: Path, choice: dict[str, Any]
) -> None:
    config = tiny(train_tokens=120 * 128, **choice)
    expected = list(digests(build_loader(config, local, 1337, 0, 1, tmp_path / "none")))
    for rank in range(2):  # the second finds what the first has read
        streamed = build_loader(config, remote, 1337, 0, 1, tmp_path / "cache")
        assert list(digests(streamed)) == expected, rank
    assert not (tmp_path / "none").exists()


def test_two_processes_of_a_machine_share_what_was_read(
    remote: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, asked = Storage.read, []

    def counted(self: Storage, name: str, *span: int) -> bytes:
        if span:
            asked.append((name, *span))
        return read(self, name, *span)

    monkeypatch.setattr(Storage, "read", counted)
    config = tiny(num_processes=2, train_tokens=200 * 128)
    feeds = [build_loader(config, remote, 1337, rank, 2, tmp_path) for rank in range(2)]
    for _ in range(100):
        for feed in feeds:
            next(feed)
    for feed in feeds:
        feed.close()
    assert len(asked) == len(set(asked)) > 20


def test_the_cache_stays_within_its_bound_and_ahead_of_the_run(
    remote: Dataset, tmp_path: Path
) -> None:
    whole = remote.stats["tokens"][TRAIN] * 2
    limit = 7000
    assert whole > 1.5 * limit
    config = tiny(train_tokens=400 * 128, shuffle_window_tokens=700, shard_cache_bytes=limit)
    feed = build_loader(config, remote, 1337, 0, 1, tmp_path)
    largest = 0
    for _ in range(300):
        next(feed)
        largest = max(largest, size(tmp_path))
    assert 0 < largest <= limit + FETCH_THREADS * BLOCK  # each makes room for its own block
    before = wait_until_idle(tmp_path)
    assert feed._prefetcher is not None
    feed._prefetcher.close()  # else it goes on as soon as a step is over
    for _ in range(3):  # the next blocks are already in the cache
        next(feed)
    feed.close()
    assert {path.name for path in tmp_path.iterdir()} <= before | {".lock"}


def test_the_first_steps_do_not_wait_for_the_whole(remote: Dataset, tmp_path: Path) -> None:
    config = tiny(train_tokens=128, shuffle_window_tokens=700)
    feed = build_loader(config, remote, 1337, 0, 1, tmp_path)
    next(feed)
    feed.close()
    assert size(tmp_path) < remote.stats["tokens"][TRAIN] * 2 / 3


def test_a_cache_too_small_for_a_pool_is_refused(remote: Dataset, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"train.tiny.data.shard_cache_bytes: 1,000 bytes do not hold"
    ):
        build_loader(tiny(shard_cache_bytes=1000), remote, 1337, 0, 1, tmp_path)
    with pytest.raises(UserError, match="lower shuffle_window_tokens"):
        build_loader(
            tiny(shard_cache_bytes=1000, shuffle_window_tokens=700), remote, 1337, 0, 1, tmp_path
        )


def test_a_block_that_another_run_removed_is_read_again(remote: Dataset, tmp_path: Path) -> None:
    shards = TokenShards(remote, TRAIN, tmp_path)
    first = shards.read(0, 50).tolist()
    for path in tmp_path.iterdir():
        path.unlink()
    assert shards.read(0, 50).tolist() == first  # still mapped
    shards.unmap(set())
    assert shards.read(0, 50).tolist() == first
    assert TokenShards(remote, TRAIN, tmp_path).read(0, 50).tolist() == first


@pytest.mark.e2e
def test_rows_come_from_s3(local: Dataset, s3: S3, tmp_path: Path) -> None:
    remote = token_shards(f"s3://{s3.bucket}/stream")
    config = tiny(train_tokens=60 * 128, **CHOICES[-1])
    expected = list(digests(build_loader(config, local, 1337, 0, 1, tmp_path / "none"), 60))
    streamed = build_loader(config, remote, 1337, 0, 1, tmp_path / "cache")
    assert list(digests(streamed, 60)) == expected
    assert size(tmp_path / "cache") > 0
