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
from lm.checkpoint.retention import Shelf
from lm.config.train import TrainConfig
from lm.distributed.parallel import on_gpu
from lm.launch.rendezvous import rank_of
from lm.metrics.meter import local_rank, place
from lm.models.decoder import Decoder
from lm.models.registry import build
from lm.models.weights import WEIGHTS, save_weights
from lm.train.loop import Job, train
from lm.train.loss_spike import Spoilt

JOB, RESULT = "job.json", "result.json"
PROBE, CONFIG = "probe.safetensors", "config.json"
PROBE_POSITIONS = 64
# glibc's mallopt: keep freed memory instead of giving it back and faulting it in anew for every
# activation. Measured: 10 % of a step of a 4 M parameter model on one core.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_MOST_MMAP_THRESHOLD = 32 << 20


def main(folder: Path) -> None:
    """Train, and leave the result in the folder; an error of the user's is a result, too."""
    value = json.loads((folder / JOB).read_bytes())
    config = TrainConfig.model_validate(value["config"])
    keep_memory()
    torch.set_num_threads(config.threads)
    if config.deterministic:
        same_bits()
    join("cpu:gloo,cuda:nccl" if on_gpu(config) else "gloo", first=value["first"])
    try:
        tokens = open_dataset(Storage(**value["tokens"]))
        base = open_dataset(Storage(**value["base"])) if value["base"] else None
        facts = tokens.facts
        job = Job(
            config,
            value["seed"],
            facts["vocab_size"],
            facts["eos_id"],
            folder,
            value["identity"],
            Shelf.of(config, folder, value["checkpoints"], value["start"]),
            tuple((first, end) for first, end in value["skip"]),
            base,
        )
        result = attempt(job, tokens)
        if place()[0] == 0:
            _write(folder / RESULT, result)
    finally:
        destroy_process_group()


def same_bits() -> None:
    """Only kernels that give the same bits each time; call it before the GPU is used.

    cuBLAS reads the variable when it starts; both as PyTorch's notes on reproducibility say.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)


def join(backend: str, *, first: bool = True) -> None:
    """Meet the other processes that torchrun started, here and on other machines.

    torchrun numbers machines as it likes; here the processes of the first one, which alone writes
    the log and the result, have the first ranks.

    torchrun keeps one store over all its restarts. Without a prefix of its own, a restarted
    process may find there the address of one that was killed, and give up on it (pytorch#167288).
    """
    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    own = PrefixStore(f"attempt-{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    group, here = int(os.environ["GROUP_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if first:
        own.set("first", str(group))
    init_process_group(
        backend,
        store=own,
        rank=rank_of(group, int(own.get("first")), here, local_rank()),
        world_size=int(os.environ["WORLD_SIZE"]),
    )


def attempt(job: Job, tokens: Dataset) -> dict[str, Any]:
    """What the launcher is told: ``line`` and more, or why there is no use in trying again."""
    try:
        weights, line = train(job, tokens)
    except Spoilt as spoilt:
        return {"spoilt": spoilt.facts()}
    except StorageError as error:
        return {"away": str(error)}
    except UserError as error:
        # Every process has raised it, and would again: no reason for torchrun to start over.
        return {"error": str(error)}
    if place()[0] != 0:
        return {}
    model = build(job.shape)
    model.load_state_dict(weights)
    save_weights(model, job.folder / WEIGHTS)
    save_probe(model, job.folder / PROBE)
    shape = {"shape": asdict(job.shape), "training": job.config.essence(), "seed": job.seed}
    (job.folder / CONFIG).write_text(json.dumps(shape, indent=1, sort_keys=True) + "\n")
    return {
        "line": line,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training_tokens": tokens.facts["tokens"][TRAIN],
    }


@torch.no_grad()
def save_probe(model: Decoder, path: Path) -> None:
    """What the model says to a fixed input, for whoever rebuilds it elsewhere.

    The file holds ``tokens`` int64[1, context], ``positions`` int64[n] and ``logits`` float[n, V]
    at these positions, worked out in fp32 on the CPU.
    """
    shape = model.shape
    drawn = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, shape.vocabulary, (1, shape.context), generator=drawn)
    last = shape.context - 1
    positions = torch.linspace(0, last, min(shape.context, PROBE_POSITIONS)).round().long()
    logits = model(tokens)[0, positions]
    save_file({"tokens": tokens, "positions": positions, "logits": logits.contiguous()}, path)


def _write(path: Path, value: dict[str, Any]) -> None:
    draft = path.with_name(f".tmp-{path.name}")
    draft.write_text(json.dumps(value))
    draft.replace(path)


def keep_memory() -> None:
    """Let glibc keep what is freed for the next step (see the constants above)."""
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_MMAP_THRESHOLD, _MOST_MMAP_THRESHOLD)
            libc.mallopt(_TRIM_THRESHOLD, -1)
            libc.mallopt(_TOP_PAD, 64 << 20)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
