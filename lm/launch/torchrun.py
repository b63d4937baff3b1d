"""Starts a run's processes, watches them, and leaves none behind.

``torchrun`` starts one process per core or GPU and, when one of them dies, stops the others and
starts all of them again; they go on from the last complete checkpoint. If torchrun itself is
killed, this module starts it again. The kernel kills torchrun
when this process dies, however it dies, and the processes when torchrun does.
"""

import json
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.compute.processes import managed_process
from infra.errors import UserError
from infra.store.storage import Storage
from lm.checkpoint.retention import ResumePoint
from lm.config.train import TrainConfig
from lm.launch.rendezvous import interface_name, local_address, publish_job, torchrun_args

log = logging.getLogger(__name__)

MAX_TAIL_LINES = 200  # last lines of output that an error shows; torchrun alone says 30
JOB_FILE, RESULT_FILE = "job.json", "result.json"  # as in lm.train.worker, which is slow to import


class TrainingFailedError(UserError):
    """A run that ended without a result; the message holds its last output."""


class TrainingDiverged(Exception):
    """A run whose weights are no good any more.

    Attributes:
        details: as in ``lm.train.loss_spike.LossDivergedError``.
    """

    def __init__(self, details: Mapping[str, Any]) -> None:
        """Keep the facts."""
        super().__init__(str(details))
        self.details = dict(details)


class TrainingConfigError(UserError):
    """A run that could tell what is wrong: bad numbers, too few tokens, another run's folder."""


def launch(
    config: TrainConfig,
    *,
    seed: int,
    tokens: Storage,
    compatibility_key: Mapping[str, Any],
    folder: Path,
    on_metrics: Callable[[dict[str, Any]], None],
    skip: Sequence[tuple[int, int]] = (),
    checkpoint_url: str | None = None,
    resume_point: ResumePoint | None = None,
    base_model: Storage | None = None,
    rendezvous: Storage | None = None,
) -> dict[str, Any]:
    """Run the training to its end, from the last complete checkpoint in the folder if there is one.

    Call it from a thread that lives until it returns (``infra.compute.processes.managed_process``).

    Args:
        config: what to train.
        seed: the recipe's.
        tokens: where the token shards are.
        compatibility_key: what a checkpoint must agree on.
        folder: for checkpoints, log and result; survives a crash.
        on_metrics: called with each line of the log as it is written.
        skip: half-open ranges of batch numbers to leave out.
        checkpoint_url: URL of the folder for them; by default in ``folder``.
        resume_point: where a branch begins.
        base_model: the model whose weights it starts with; by default they are random.
        rendezvous: where the other machines are told of each start, if there are any.

    Returns:
        ``line`` (the log's last), ``parameters``, ``training_tokens``.

    Raises:
        TrainingSpoilt: if a loss was no number or leapt.
        TrainingRefused: with the reason that the run gave.
        TrainingFailed: if it crashed more often than it may be restarted, or if the store of its
            checkpoints was away for too long.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = _read_result(folder)
    if "diverged" in before:
        raise TrainingDiverged(
            before["diverged"]
        )  # it was found out, and then this process was killed
    (folder / RESULT_FILE).unlink(missing_ok=True)
    job: dict[str, Any] = {
        "config": config.to_json(),
        "seed": seed,
        "compatibility_key": dict(compatibility_key),
    }
    job |= {
        "tokens": _storage_to_json(tokens),
        "base_model": _storage_to_json(base_model) if base_model else None,
    }
    job |= {"skip": list(skip), "checkpoint_url": checkpoint_url}
    job |= {"resume_point": resume_point.to_json() if resume_point else None}
    tail: deque[str] = deque(maxlen=MAX_TAIL_LINES)
    left = config.run.max_restarts
    while True:
        own = job if rendezvous is None else publish_job(rendezvous, job)
        (folder / JOB_FILE).write_text(json.dumps({**own, "is_first_node": True}))
        code = torchrun(config, folder, on_metrics, tail, own.get("start_id"), is_first_node=True)
        # With one machine torchrun itself starts its processes again; only who killed it is left.
        if code == 0 or left == 0 or (code > 0 and rendezvous is None):
            break
        left -= 1
        what = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        log.warning("torchrun %s: it is started again", what)
    if code != 0 or not (folder / RESULT_FILE).exists():
        last = "\n".join(tail)
        raise TrainingFailedError(f"training {config.name} ended with status {code}:\n{last}")
    result = _read_result(folder)
    if "diverged" in result:
        raise TrainingDiverged(result["diverged"])
    if "storage_unavailable" in result:
        (folder / RESULT_FILE).unlink()
        raise TrainingFailedError(
            f"training {config.name}: {result['storage_unavailable']}; started again, the run goes on from its "
            f"last complete checkpoint"
        )
    if "error" in result:
        raise TrainingConfigError(result["error"])
    return result


def torchrun(
    config: TrainConfig,
    folder: Path,
    on_metrics: Callable[[dict[str, Any]], None],
    tail: deque[str],
    start_id: str | None,
    *,
    is_first_node: bool,
) -> int:
    """One torchrun on this machine, from start to end; its status.

    Args:
        config: what to train.
        folder: with a ``job.json``.
        on_metrics: called with each line of the log.
        tail: gets the rest of its output.
        start_id: of this start, if there are several machines.
        is_first_node: whether this machine is the first of them.
    """
    line = command(config, folder, start_id, is_first_node=is_first_node)
    with managed_process(line, env=environment(config)) as process:
        assert process.stdout is not None
        for raw in process.stdout:
            text = raw.decode(errors="replace").rstrip()
            if text.startswith('{"step"'):
                on_metrics(json.loads(text))
            elif text:
                tail.append(text)
                log.debug("%s", text)
        return process.wait()


def _read_result(folder: Path) -> dict[str, Any]:
    path = folder / RESULT_FILE
    return dict(json.loads(path.read_bytes())) if path.exists() else {}


def command(
    config: TrainConfig, folder: Path, start_id: str | None = None, *, is_first_node: bool = True
) -> list[str]:
    """The command line that trains on this machine, alone or, with ``start_id``, with others."""
    if start_id is None:
        how = [
            "--standalone",
            "--local-addr=127.0.0.1",  # the host's own name need not resolve to anything
            f"--max-restarts={config.run.max_restarts}",
        ]
    else:
        how = torchrun_args(config, start_id, is_first_node=is_first_node)
    run = [sys.executable, "-m", "torch.distributed.run", *how]
    here = f"--nproc-per-node={config.run.local_processes}"
    return [*run, here, "-m", "lm.train.worker", str(folder)]


def environment(config: TrainConfig) -> dict[str, str]:
    """What the processes find in their environment besides this one's own."""
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    found = {
        "OMP_NUM_THREADS": str(config.run.threads_per_process),
        "PYTHONPATH": os.pathsep.join(paths),
    }
    if config.run.num_nodes > 1 and config.run.rendezvous is not None:
        name = interface_name(local_address(config.run.rendezvous))
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            found[variable] = os.environ.get(variable, name)
    elif sys.platform == "linux":
        found["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    return found


def _storage_to_json(storage: Storage) -> dict[str, Any]:
    path = storage.local_path()
    return {"url": str(path) if path is not None else storage.url, "options": dict(storage.options)}
