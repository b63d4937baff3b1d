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
from safetensors.torch import save_file
from torch.distributed import (  # type: ignore[attr-defined]
    PrefixStore,
    TCPStore,
    destroy_process_group,
    init_process_group,
)

from infra.dataset.dataset import open_dataset
from infra.errors import UserError
from infra.formats.megatron import TRAIN
from infra.store.storage import StorageError
from lm.distributed.devices import gpu_count, uses_gpus
from lm.distributed.ranks import global_rank, local_rank, rank_and_world_size
from lm.models.neural_lm import WEIGHTS, NeuralLM, save_weights
from lm.models.registry import build_model
from lm.train.job import RESULT_FILE, TrainJob
from lm.train.loop import train
from lm.train.loss_spike import LossDivergedError

REFERENCE_LOGITS_FILE, CONFIG_FILE = "reference_logits.safetensors", "config.json"
MAX_REFERENCE_POSITIONS = 64
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
    tokens = open_dataset(job.tokens)
    model = build_model(job.config.model.resolve(tokens.stats["vocab_size"]))
    model.load_state_dict(weights)
    save_weights(model, job.folder / WEIGHTS)
    save_reference_logits(model, job.folder / REFERENCE_LOGITS_FILE)
    described = {
        "model_config": asdict(model.config),
        "training": job.config.weights_key(),
        "seed": job.seed,
    }
    (job.folder / CONFIG_FILE).write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
    return {
        "line": line,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "flops_per_token": model.flops_per_token(),
        "training_tokens": tokens.stats["tokens"][TRAIN],
    }


@torch.no_grad()
def save_reference_logits(model: NeuralLM, path: Path) -> None:
    """Save the model's logits for a fixed input, to check the model after an export.

    The file holds ``tokens`` int64[1, T] and what else ``forward`` takes, ``positions`` int64[n] and
    ``logits`` float[n, V] at these positions, computed in fp32 on the CPU.
    """
    tokens, others = model.reference_inputs(torch.Generator().manual_seed(0))
    length = tokens.shape[1]
    positions = torch.linspace(0, length - 1, min(length, MAX_REFERENCE_POSITIONS)).round().long()
    logits = model(tokens, **others)[0, positions].contiguous()
    save_file({"tokens": tokens, **others, "positions": positions, "logits": logits}, path)


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
