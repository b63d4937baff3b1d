"""Faults of what a run stands on: S3, disks, the clock, memory, credentials, its deployment."""

import importlib.util
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.chaos import victims
from benchmarks.chaos.case import Case, on_stack
from benchmarks.chaos.rig import Rig
from benchmarks.chaos.terminal import Prepare, Surroundings, fill_disk, in_terminal
from benchmarks.s3_proxy import Disturbance, s3_proxy
from tests.caches import make_cache
from tests.processes import TreeProcess

DISTURBED_S = 20.0
DISK_MB = 64
CLOCK_JUMP_S = 3600
MEMORY_CGROUP = Path("/sys/fs/cgroup/memory")
OOM_HEADROOM = 4 << 20


def _s3(disturbance: Disturbance, every: int) -> Prepare:
    """For a while, something happens to one of so many requests."""

    def prepare(rig: Rig, key: str) -> Iterator[Surroundings]:
        with s3_proxy(rig.layout.s3_url) as proxy:

            def inject(_: TreeProcess) -> None:
                proxy.disturb = lambda number, _method: disturbance if number % every == 0 else None
                time.sleep(DISTURBED_S)
                proxy.disturb = lambda _number, _method: None
                assert proxy.disturbed, "no request was disturbed"

            yield Surroundings(rig.storage_of(key), inject, {"AWS_ENDPOINT_URL": proxy.url})

    return prepare


def _expired(rig: Rig, key: str) -> Iterator[Surroundings]:
    """Credentials expire, and are renewed before the next run."""
    with s3_proxy(rig.layout.s3_url) as proxy:

        def inject(_: TreeProcess) -> None:
            proxy.disturb = lambda _number, _method: "ExpiredToken"

        def repair() -> None:
            assert proxy.disturbed, "no request was disturbed"
            proxy.disturb = lambda _number, _method: None

        env = {"AWS_ENDPOINT_URL": proxy.url}
        yield Surroundings(rig.storage_of(key), inject, env, repair=repair)


@contextmanager
def _disk(folder: Path) -> Iterator[Path]:
    """A small file system of its own; needs root."""
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _full_store(rig: Rig, key: str) -> Iterator[Surroundings]:
    with _disk(rig.folder / key) as disk:
        yield Surroundings(
            str(disk / "data"),
            lambda _: fill_disk(str(disk)),
            repair=(disk / "filler").unlink,
        )


def _full_scratch(rig: Rig, key: str) -> Iterator[Surroundings]:
    """The cache holds crawls, joins and checkpoints in progress; temporary files are beside it."""
    with _disk(rig.folder / key) as disk:
        (disk / "tmp").mkdir()
        make_cache(disk / "cache")
        yield Surroundings(
            rig.storage_of(key),
            lambda _: fill_disk(str(disk)),
            {"TMPDIR": str(disk / "tmp"), "GRISTMILL_CACHE": str(disk / "cache")},
            repair=(disk / "filler").unlink,
        )


def _clock(jump_s: int) -> Prepare:
    """The clock of the run's processes jumps, but not that of servers."""

    def prepare(rig: Rig, key: str) -> Iterator[Surroundings]:
        spec = importlib.util.find_spec("libfaketime")
        assert spec is not None, "libfaketime is missing: make setup"
        assert spec.origin is not None
        library = Path(spec.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
        offset = rig.folder / f"{key}.offset"
        offset.write_text("+0")
        env = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

        def inject(_: TreeProcess) -> None:
            offset.write_text(f"{jump_s:+d}")

        # A folder: S3 itself refuses requests whose time is wrong.
        yield Surroundings(str(rig.folder / key), inject, env)

    return prepare


def _out_of_memory(rig: Rig) -> None:
    """Let the kernel kill a Dask worker at its next few megabytes."""
    group = MEMORY_CGROUP / f"gristmill-chaos-{os.getpid()}"
    (worker,) = victims.dask_worker(rig)
    group.mkdir(exist_ok=True)
    try:
        (group / "memory.limit_in_bytes").write_text(str(OOM_HEADROOM))
        (group / "cgroup.procs").write_text(str(worker.pid))
        worker.wait(60)
    finally:
        if worker.is_running():
            (MEMORY_CGROUP / "cgroup.procs").write_text(str(worker.pid))
        group.rmdir()


def _deploy_other(rig: Rig) -> None:
    """Register another recipe under the same name."""
    value = rig.recipe(rig.storage_of("other"))
    rig.deploy({**value, "tokenize": {**value["tokenize"], "vocab_size": 500}})


def _case(key: str, fault: str, moment: str, prepare: Prepare) -> Case:
    return Case(key, fault, moment, in_terminal(prepare))


def _stack_case(key: str, fault: str, moment: str, inject: Callable[[Rig], None]) -> Case:
    return Case(key, fault, moment, on_stack(inject))


CASES: tuple[Case, ...] = (
    _case("s3-throttled", "S3 answers every other request with SlowDown for 20 s", "acquire", _s3("SlowDown", 2)),
    _case("s3-errors", "S3 answers every other request with an error for 20 s", "acquire", _s3("InternalError", 2)),
    _case("s3-late", "S3 answers every third request 3 s late for 20 s", "acquire", _s3("late", 3)),
    _case("s3-half", "S3 ends every third answer in the middle of its body for 20 s", "acquire", _s3("half", 3)),
    _case("s3-reset", "S3 closes every third connection without an answer for 20 s", "acquire", _s3("reset", 3)),
    _case("credentials", "credentials expire, and are renewed for the next run", "annotate", _expired),
    _case("full-store", "the disk of the store is full, and is freed for the next run", "annotate", _full_store),
    _case("full-scratch", "the disk of scratch files is full, and is freed for the next run", "tokenize", _full_scratch),
    _case("clock-forward", "the clock jumps one hour forward", "acquire", _clock(CLOCK_JUMP_S)),
    _case("clock-back", "the clock jumps one hour back", "acquire", _clock(-CLOCK_JUMP_S)),
    _stack_case("memory", "a Dask worker has no memory left", "acquire", _out_of_memory),
    _stack_case("deployment", "its deployment gets another recipe", "annotate", _deploy_other),
)  # fmt: skip
