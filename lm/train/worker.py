"""One process of a run: ``torchrun -m lm.train.worker FOLDER`` with a ``job.json`` in it."""

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

from infra.dataset.dataset import Dataset, open_dataset
from infra.errors import UserError
from infra.formats.megatron import TRAIN
from infra.store.storage import Storage, StorageError
from lm.checkpoint.retention import CheckpointStore
from lm.config.train import TrainConfig
from lm.distributed.parallel import runs_on_gpu
from lm.launch.rendezvous import global_rank
from lm.metrics.meter import local_rank, rank_and_world_size
from lm.models.causal_lm import WEIGHTS, CausalLM, save_weights
from lm.models.registry import build_model
from lm.train.loop import TrainJob, train
from lm.train.loss_spike import LossDivergedError

JOB_FILE, RESULT_FILE = "job.json", "result.json"
REFERENCE_LOGITS_FILE, CONFIG_FILE = "reference_logits.safetensors", "config.json"
MAX_REFERENCE_POSITIONS = 64
# glibc's mallopt: keep freed memory instead of giving it back and faulting it in anew for every
# activation. Measured: 10 % of a step of a 4 M parameter model on one core.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_MAX_MMAP_THRESHOLD = 32 << 20


def main(folder: Path) -> None:
    """Train, and leave the result in the folder; an error of the user's is a result, too."""
    value = json.loads((folder / JOB_FILE).read_bytes())
    config = TrainConfig.model_validate(value["config"])
    tune_malloc()
    torch.set_num_threads(config.run.threads_per_process)
    if config.run.deterministic:
        set_deterministic()
    init_distributed(
        "cpu:gloo,cuda:nccl" if runs_on_gpu(config) else "gloo",
        is_first_node=value["is_first_node"],
    )
    try:
        tokens = open_dataset(Storage(**value["tokens"]))
        base = open_dataset(Storage(**value["base_model"])) if value["base_model"] else None
        facts = tokens.stats
        job = TrainJob(
            config,
            value["seed"],
            facts["vocab_size"],
            facts["eos_id"],
            folder,
            value["compatibility_key"],
            CheckpointStore.from_config(
                config, folder, value["checkpoint_url"], value["resume_point"]
            ),
            tuple((first, end) for first, end in value["skip"]),
            base,
        )
        result = run_attempt(job, tokens)
        if rank_and_world_size()[0] == 0:
            _write_json(folder / RESULT_FILE, result)
    finally:
        destroy_process_group()


def set_deterministic() -> None:
    """Only kernels that give the same bits each time; call it before the GPU is used.

    cuBLAS reads the variable when it starts; both as PyTorch's notes on reproducibility say.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)


def init_distributed(backend: str, *, is_first_node: bool = True) -> None:
    """Meet the other processes that torchrun started, here and on other machines.

    torchrun numbers machines as it likes; here the processes of the first one, which alone writes
    the log and the result, have the first ranks.

    torchrun keeps one store over all its restarts. Without a prefix of its own, a restarted
    process may find there the address of one that was killed, and give up on it (pytorch#167288).
    """
    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    own = PrefixStore(f"attempt-{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    group, here = int(os.environ["GROUP_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if is_first_node:
        own.set("first", str(group))
    init_process_group(
        backend,
        store=own,
        rank=global_rank(group, int(own.get("first")), here, local_rank()),
        world_size=int(os.environ["WORLD_SIZE"]),
    )


def run_attempt(job: TrainJob, tokens: Dataset) -> dict[str, Any]:
    """What the launcher is told: ``line`` and more, or why there is no use in trying again."""
    try:
        weights, line = train(job, tokens)
    except LossDivergedError as spoilt:
        return {"diverged": spoilt.to_json()}
    except StorageError as error:
        return {"storage_unavailable": str(error)}
    except UserError as error:
        # Every process has raised it, and would again: no reason for torchrun to start over.
        return {"error": str(error)}
    if rank_and_world_size()[0] != 0:
        return {}
    model = build_model(job.model_config)
    model.load_state_dict(weights)
    save_weights(model, job.folder / WEIGHTS)
    save_reference_logits(model, job.folder / REFERENCE_LOGITS_FILE)
    shape = {
        "model_config": asdict(job.model_config),
        "training": job.config.weights_key(),
        "seed": job.seed,
    }
    (job.folder / CONFIG_FILE).write_text(json.dumps(shape, indent=1, sort_keys=True) + "\n")
    return {
        "line": line,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training_tokens": tokens.stats["tokens"][TRAIN],
    }


@torch.no_grad()
def save_reference_logits(model: CausalLM, path: Path) -> None:
    """What the model says to a fixed input, for whoever rebuilds it elsewhere.

    The file holds ``tokens`` int64[1, context], ``positions`` int64[n] and ``logits`` float[n, V]
    at these positions, worked out in fp32 on the CPU.
    """
    shape = model.config
    drawn = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, shape.vocab_size, (1, shape.context_length), generator=drawn)
    last = shape.context_length - 1
    positions = (
        torch.linspace(0, last, min(shape.context_length, MAX_REFERENCE_POSITIONS)).round().long()
    )
    logits = model(tokens)[0, positions]
    save_file({"tokens": tokens, "positions": positions, "logits": logits.contiguous()}, path)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    draft = path.with_name(f".tmp-{path.name}")
    draft.write_text(json.dumps(value))
    draft.replace(path)


def tune_malloc() -> None:
    """Let glibc keep what is freed for the next step (see the constants above)."""
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_MMAP_THRESHOLD, _MAX_MMAP_THRESHOLD)
            libc.mallopt(_TRIM_THRESHOLD, -1)
            libc.mallopt(_TOP_PAD, 64 << 20)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
