"""One process of a training run: ``torchrun -m lm.train.worker FOLDER`` with a ``job.json`` in it."""

from infra.compute.processes import die_with_parent

if __name__ == "__main__":
    die_with_parent()  # before torch is imported, which takes seconds

import ctypes
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.distributed import (  # type: ignore[attr-defined]
    PrefixStore,
    TCPStore,
    destroy_process_group,
    init_process_group,
)

from infra.errors import UserError
from infra.store.storage import StorageError
from lm.distributed.devices import gpu_count, uses_gpus
from lm.distributed.ranks import global_rank, local_rank, rank_and_world_size
from lm.train.job import RESULT_FILE, TrainJob
from lm.train.loop import train
from lm.train.loss_spike import LossDivergedError
from lm.train.workload import open_workload

# glibc's mallopt: keep freed memory instead of returning it to the kernel and faulting it in again
# for every activation. Measured: 10 % of a step of a 4 M parameter model on one core.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_MAX_MMAP_THRESHOLD = 32 << 20


def main(folder: Path) -> None:
    """Train, and write the result to the folder; a ``UserError`` is a result, too."""
    job = TrainJob.load(folder)
    tune_malloc()
    torch.set_num_threads(job.config.run.threads_per_process)
    if job.config.run.deterministic:
        set_deterministic()
    backend = "cpu:gloo,cuda:nccl" if uses_gpus(job.config, gpu_count()) else "gloo"
    init_distributed(backend, is_first_node=job.is_first_node)
    try:
        result = run_attempt(job)
        if rank_and_world_size()[0] == 0:
            _write_json(folder / RESULT_FILE, result)
    finally:
        destroy_process_group()


def set_deterministic() -> None:
    """Use only kernels that give the same bits each time; call it before the GPU is used.

    cuBLAS reads the variable when it starts (PyTorch's notes on reproducibility).
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)


def init_distributed(backend: str, *, is_first_node: bool = True) -> None:
    """Join the process group of all workers on all nodes.

    torchrun numbers nodes in any order; here the processes of the first node, which alone writes
    the log and the result, have the first ranks.

    torchrun keeps one store over all its restarts. Without a prefix per restart, a restarted process
    may read the address of one that was killed, and abort (pytorch#167288).
    """
    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    attempt = PrefixStore(f"attempt-{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    node, local_world_size = int(os.environ["GROUP_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if is_first_node:
        attempt.set("first_node", str(node))
    first_node = int(attempt.get("first_node"))
    init_process_group(
        backend,
        store=attempt,
        rank=global_rank(node, first_node, local_world_size, local_rank()),
        world_size=int(os.environ["WORLD_SIZE"]),
    )


def run_attempt(job: TrainJob) -> dict[str, Any]:
    """Train; return the launcher's result: ``line`` and more, or why a restart would not help.

    All processes raise the same ``UserError``; it becomes a result, so that torchrun does not
    restart them.
    """
    try:
        weights, line = train(job)
    except LossDivergedError as error:
        return {"diverged": asdict(error), "skip": [list(batches) for batches in job.skip]}
    except StorageError as error:
        return {"storage_unavailable": str(error)}
    except UserError as error:
        return {"error": str(error)}
    if rank_and_world_size()[0] != 0:
        return {}
    return {"line": line, **open_workload(job).save(weights, job.folder)}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


def tune_malloc() -> None:
    """Let glibc keep freed memory for the next step (see the constants above)."""
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_MMAP_THRESHOLD, _MAX_MMAP_THRESHOLD)
            libc.mallopt(_TRIM_THRESHOLD, -1)
            libc.mallopt(_TOP_PAD, 64 << 20)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
