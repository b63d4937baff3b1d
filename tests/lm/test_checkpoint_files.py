"""What a checkpoint's files may hold: their digests, and nothing that runs code when it is loaded."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from infra.store.storage import Storage
from lm.checkpoint import marker, shard_io
from lm.checkpoint.manager import CheckpointManager
from lm.checkpoint.marker import MARKER, CheckpointStore
from lm.checkpoint.shard_io import METADATA_FILE, ShardReader, UnsafeCheckpointError
from tests.lm.test_checkpoint_manager import KEY, Run, saved_twice

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@pytest.fixture(params=["local", "remote"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    is_local = request.param == "local"
    return Storage(str(tmp_path / "checkpoints") if is_local else f"memory://files{tmp_path}")


def restore(store: Storage, folder: Path, run: Run) -> marker.Checkpoint | None:
    return CheckpointManager(CheckpointStore(store, folder, timeout_s=0.0), KEY).restore(run)


def saved(store: Storage, folder: Path) -> Storage:
    """Save after one step and after two; return the folder of the newer checkpoint."""
    saved_twice(Run(), CheckpointManager(CheckpointStore(store, folder, timeout_s=0.0), KEY))
    return store.subdir(marker.checkpoint_name(2))


@pytest.mark.parametrize("suffix", [".distcp", METADATA_FILE])
def test_flipped_bits_are_noticed_and_the_checkpoint_before_is_restored(
    store: Storage, tmp_path: Path, suffix: str
) -> None:
    newest = saved(store, tmp_path)
    name = next(name for name in newest.list_files() if name.endswith(suffix))
    data = bytearray(newest.read(name))
    data[len(data) // 2] ^= 1
    newest.write(name, bytes(data))
    checkpoint = restore(store, tmp_path, Run())
    assert checkpoint is not None
    assert checkpoint.step == 1
    assert [item.step for item in marker.list_complete(store)] == [1]


def test_a_marker_of_another_version_is_skipped(store: Storage, tmp_path: Path) -> None:
    newest = saved(store, tmp_path)
    for text in (b"{", b"[]", b"{}", b'{"files": {"a": 5}, "step": 2}', b'{"files": {}, "x": 1}'):
        newest.write(MARKER, text)
        assert [item.step for item in marker.list_complete(store)] == [1]


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def forge(folder: Storage, name: str, data: bytes, tmp_path: Path) -> None:
    """Replace a file and its digest, as whoever can write to the store can do."""
    (tmp_path / "forged").write_bytes(data)
    digest = marker.FileDigest.from_path(tmp_path / "forged")
    (checkpoint,) = (item for item in marker.list_complete(folder.parent()) if item.step == 2)
    files = {**checkpoint.files, name: digest}
    folder.write(name, data)
    marker.write_marker(
        marker.Checkpoint(folder, 2, checkpoint.world_size, KEY, dict(checkpoint.metadata), files)
    )


def test_metadata_that_runs_a_command_is_refused(store: Storage, tmp_path: Path) -> None:
    newest, touched = saved(store, tmp_path), tmp_path / "touched"
    forge(newest, METADATA_FILE, pickle.dumps(Command(touched)), tmp_path)
    with pytest.raises(UnsafeCheckpointError, match=r"\.metadata .*posix\.system"):
        restore(store, tmp_path, Run())
    assert not touched.exists()


@pytest.mark.parametrize(
    "data", [b"", b"no pickle", pickle.dumps(5), pickle.dumps([1]), pickle.dumps(torch.Size([1]))]
)
def test_metadata_that_is_something_else_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / METADATA_FILE).write_bytes(data)
    with pytest.raises(UnsafeCheckpointError):
        ShardReader(tmp_path, {}).read_metadata()


def test_metadata_that_refers_to_a_file_outside_is_refused(store: Storage, tmp_path: Path) -> None:
    newest = saved(store, tmp_path)
    data = newest.read(METADATA_FILE)
    forged = data.replace(b"__0_0.distcp", b"../../passwd")
    assert forged != data
    forge(newest, METADATA_FILE, forged, tmp_path)
    with pytest.raises(UnsafeCheckpointError, match="passwd"):
        restore(store, tmp_path, Run())


def test_a_value_in_a_shard_that_runs_a_command_is_refused(store: Storage, tmp_path: Path) -> None:
    """torch loads values that are no tensors with ``weights_only=False``."""
    newest, touched = saved(store, tmp_path), tmp_path / "touched"
    reader_folder = tmp_path / "copy"
    for name in newest.list_files():
        newest.download(name, reader_folder / name)
    metadata = ShardReader(reader_folder, newest.list_files()).read_metadata()
    index, info = next(
        (index, info) for index, info in metadata.storage_data.items() if index.fqn.endswith("lr")
    )
    buffer = io.BytesIO()
    torch.save(Command(touched), buffer)
    shard = newest.read(info.relative_path)
    metadata.storage_data[index] = type(info)(
        info.relative_path, len(shard), len(buffer.getvalue()), info.transform_descriptors
    )
    forge(newest, info.relative_path, shard + buffer.getvalue(), tmp_path)
    forge(newest, METADATA_FILE, pickle.dumps(metadata), tmp_path)
    with pytest.raises(UnsafeCheckpointError, match="a shard contains"):
        restore(store, tmp_path, Run())
    assert not touched.exists()


def test_each_file_has_its_digest_in_the_marker(store: Storage, tmp_path: Path) -> None:
    newest = saved(store, tmp_path)
    checkpoint = marker.list_complete(store)[-1]
    assert {*newest.list_files()} == {MARKER, *checkpoint.files}
    copy = tmp_path / "copy"
    for name in checkpoint.files:
        newest.download(name, copy / name)
    assert checkpoint.find_damaged(copy) == []
    (copy / METADATA_FILE).unlink()
    assert checkpoint.find_damaged(copy) == [METADATA_FILE]


def test_a_process_returns_the_results_of_all() -> None:
    assert shard_io.run_on_all_ranks(None, "counting", lambda: 5) == [5]
