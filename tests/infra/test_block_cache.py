import os
import threading
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from infra.store import block_cache
from infra.store.block_cache import Block, BlockCache
from infra.store.storage import Storage, StorageError
from tests.limits import WAIT_TIMEOUT_S

DATA = bytes(range(256)) * 4


@pytest.fixture
def store() -> Storage:
    storage = Storage(f"memory://blocks-{uuid4().hex}")
    storage.write("shard.bin", DATA)
    return storage


def block(store: Storage, number: int, size: int = 100) -> Block:
    return Block(store, "shard.bin", "abc", number * size, (number + 1) * size)


def held(cache: BlockCache) -> list[str]:
    return sorted(path.name for path in cache.folder.iterdir())


def test_a_block_is_read_once_and_by_its_range(
    store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[tuple[Any, ...]] = []
    read = Storage.read

    def counted(self: Storage, *args: Any) -> bytes:
        reads.append(args)
        return read(self, *args)

    monkeypatch.setattr(Storage, "read", counted)
    cache, another = BlockCache(tmp_path), BlockCache(tmp_path)
    assert cache.get(block(store, 3)).read_bytes() == DATA[300:400]
    assert another.has(block(store, 3))
    assert another.get(block(store, 3)).read_bytes() == DATA[300:400]
    assert reads == [("shard.bin", 300, 400)]
    assert held(cache) == ["abc-300-400"]


def test_many_at_once_read_each_block_once(
    store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    read = Storage.read

    def slow(self: Storage, name: str, start: int, end: int) -> bytes:
        reads.append(start)
        time.sleep(0.02)
        return read(self, name, start, end)

    monkeypatch.setattr(Storage, "read", slow)

    def work() -> None:
        cache = BlockCache(tmp_path)
        for number in range(5):
            assert cache.get(block(store, number)).read_bytes() == block_bytes(number)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(reads) == [0, 100, 200, 300, 400]


def block_bytes(number: int) -> bytes:
    return DATA[number * 100 : number * 100 + 100]


def test_a_fetch_without_waiting_leaves_a_block_to_the_other_process(
    store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on = threading.Event(), threading.Event()
    read = Storage.read

    def held_up(self: Storage, *args: Any) -> bytes:
        reading.set()
        assert go_on.wait(WAIT_TIMEOUT_S)
        return read(self, *args)

    monkeypatch.setattr(Storage, "read", held_up)
    cache = BlockCache(tmp_path)
    thread = threading.Thread(target=cache.fetch, args=(block(store, 0),))
    thread.start()
    assert reading.wait(WAIT_TIMEOUT_S)
    assert not cache.fetch(block(store, 0), wait=False)
    go_on.set()
    thread.join()
    assert cache.fetch(block(store, 0), wait=False)


def test_pinned_blocks_stay_and_the_least_recently_used_are_removed(
    store: Storage, tmp_path: Path
) -> None:
    cache = BlockCache(tmp_path, max_bytes=400)
    for number in range(4):
        os.utime(cache.get(block(store, number)), (number, number))
    cache.pin({block(store, 0).cache_name, block(store, 4).cache_name})
    cache.get(block(store, 2))  # used just now
    cache.get(block(store, 4))
    assert held(cache) == ["abc-0-100", "abc-200-300", "abc-300-400", "abc-400-500"]
    cache.get(block(store, 5))
    assert held(cache) == ["abc-0-100", "abc-200-300", "abc-400-500", "abc-500-600"]
    cache.pin({block(store, number).cache_name for number in range(7)})
    cache.get(block(store, 6))
    assert len(held(cache)) == 5  # needed more than fits: nothing goes


def test_unfinished_files_of_crashed_processes_are_removed(store: Storage, tmp_path: Path) -> None:
    for name, age in (("old", 2 * block_cache.TEMP_MAX_AGE_S), ("new", 0)):
        (tmp_path / f".abc.{name}").write_bytes(b"half")
        os.utime(tmp_path / f".abc.{name}", (time.time() - age,) * 2)
    BlockCache(tmp_path).get(block(store, 0))
    assert held(BlockCache(tmp_path)) == [".abc.new", "abc-0-100"]


def test_a_read_is_retried_while_the_store_fails(
    store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    read, failures = Storage.read, [OSError("down"), ConnectionError("refused")]

    def failing(self: Storage, *args: Any) -> bytes:
        if failures:
            raise failures.pop()
        return read(self, *args)

    monkeypatch.setattr(Storage, "read", failing)
    assert BlockCache(tmp_path).get(block(store, 1)).read_bytes() == block_bytes(1)
    failures += [OSError("down")] * 1000
    with pytest.raises(StorageError, match=r"shard.bin: the store has not answered for .*: down"):
        BlockCache(tmp_path, timeout_s=0).get(block(store, 2))
    assert held(BlockCache(tmp_path)) == ["abc-100-200"]


def test_a_missing_or_truncated_file_is_named(store: Storage, tmp_path: Path) -> None:
    cache = BlockCache(tmp_path)
    with pytest.raises(StorageError, match=r"shard.bin: 24 bytes from 1000 on, 100 were expected"):
        cache.get(block(store, 10))
    store.remove("shard.bin")
    with pytest.raises(StorageError, match=r"shard.bin: no such file"):
        cache.get(block(store, 1))
    assert held(cache) == []
