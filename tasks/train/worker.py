"""One process of a run: ``torchrun -m tasks.train.worker FOLDER`` with a ``job.json`` in it."""

from infra.processes import die_with_parent

if __name__ == "__main__":
    die_with_parent()  # before torch is imported, which takes seconds

import ctypes  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from safetensors.torch import save_file  # noqa: E402
from torch import set_num_threads  # noqa: E402
from torch.cuda import is_available  # noqa: E402
from torch.distributed import destroy_process_group, init_process_group  # noqa: E402

from infra.dataset import open_dataset  # noqa: E402
from infra.errors import UserError  # noqa: E402
from infra.storage import Storage  # noqa: E402
from infra.tokens import TRAIN, VALIDATION, TokenShards  # noqa: E402
from tasks.train.config import TrainConfig  # noqa: E402
from tasks.train.loop import Job, train  # noqa: E402
from tasks.train.meter import place  # noqa: E402
from tasks.train.model import Decoder  # noqa: E402

JOB, RESULT, WEIGHTS = "job.json", "result.json", "model.safetensors"
# glibc's mallopt: keep freed memory instead of giving it back and faulting it in anew for every
# activation. Measured: 10 % of a step of a 4 M parameter model on one core.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_MOST_MMAP_THRESHOLD = 32 << 20


def main(folder: Path) -> None:
    """Train, and leave the result in the folder; an error of the user's is a result, too."""
    value = json.loads((folder / JOB).read_bytes())
    config = TrainConfig.model_validate(value["config"])
    _keep_memory()
    set_num_threads(config.threads)
    gpu = config.device != "cpu" and is_available()
    init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
    try:
        tokens = open_dataset(Storage(value["tokens"]["url"], value["tokens"]["options"]))
        cache = folder.parent / "tokens"
        job = Job(config, value["seed"], tokens.facts["vocab_size"], folder, value["identity"])
        training, held_out = (TokenShards(tokens, s, cache) for s in (TRAIN, VALIDATION))
        result = attempt(job, training, held_out)
        if place()[0] == 0:
            _write(folder / RESULT, result)
    finally:
        destroy_process_group()


def attempt(job: Job, training: TokenShards, held_out: TokenShards) -> dict[str, Any]:
    """What the launcher is told: ``line`` and more, or ``error`` if trying again is no use."""
    try:
        model, line = train(job, training, held_out)
    except UserError as error:
        # Every process has raised it, and would again: no reason for torchrun to start over.
        return {"error": str(error)}
    if place()[0] == 0:
        save_weights(model, job.folder / WEIGHTS)
    return {
        "line": line,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training_tokens": len(training),
    }


def save_weights(model: Decoder, path: Path) -> None:
    """The weights in fp32 under the training model's names; a tied head is left out."""
    weights = {
        name: weight.detach().cpu().contiguous()
        for name, weight in model.state_dict().items()
        if not (model.shape.tied and name == "head.weight")
    }
    save_file(weights, path)


def _write(path: Path, value: dict[str, Any]) -> None:
    draft = path.with_name(f".tmp-{path.name}")
    draft.write_text(json.dumps(value))
    draft.replace(path)


def _keep_memory() -> None:
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_MMAP_THRESHOLD, _MOST_MMAP_THRESHOLD)
            libc.mallopt(_TRIM_THRESHOLD, -1)
            libc.mallopt(_TOP_PAD, 64 << 20)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
