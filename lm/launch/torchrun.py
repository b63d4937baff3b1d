"""Start the processes of a training run, watch them, and leave none behind.

``torchrun`` starts one process per core or GPU. When one of them dies, it stops the others and
starts all of them again; they resume from the last complete checkpoint. If torchrun itself is
killed, this module starts it again. The kernel kills torchrun when this process dies, however it
dies, and the workers when torchrun does.
"""

import json
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from infra.compute.processes import managed_process
from infra.errors import UserError
from infra.store.storage import Storage
from lm.config.loop import LoopConfig
from lm.launch.rendezvous import interface_name, local_address, publish_job, torchrun_args
from lm.train.job import RESULT_FILE, TrainJob

log = logging.getLogger(__name__)

LOG_DIR = "torchelastic"  # torchrun's own files, in the folder of the run
MAX_TAIL_LINES = 200  # last lines of output that an error shows; torchrun's own summary has 30

OnMetrics = Callable[[dict[str, Any]], None]


class TrainingFailedError(UserError):
    """A run that ended without a result; the message holds its last output."""


class TrainingDiverged(Exception):
    """A run whose loss is NaN or spiked; the rollback handles it.

    Attributes:
        details: the fields of ``lm.train.loss_spike.LossDivergedError``.
    """

    def __init__(self, details: Mapping[str, Any]) -> None:
        """Store the details."""
        super().__init__(str(details))
        self.details = dict(details)


class TrainingConfigError(UserError):
    """A run that cannot succeed as it is: it diverges, has too few tokens, or another run's folder."""


def launch(
    job: TrainJob, on_metrics: OnMetrics, rendezvous: Storage | None = None
) -> dict[str, Any]:
    """Train to the end, from the last complete checkpoint if there is one.

    Call it from a thread that lives until it returns (``infra.compute.processes.managed_process``).

    Args:
        job: what to train.
        on_metrics: called with each line of the log as it is written.
        rendezvous: where each attempt is published for the other nodes, if there are any.

    Returns:
        ``line`` (the log's last), ``parameters``, ``training_tokens``.

    Raises:
        TrainingDiverged: if a loss is NaN or spikes.
        TrainingConfigError: with the reason that the workers gave.
        TrainingFailedError: if it crashes more often than ``max_restarts``, or the store of its
            checkpoints is unreachable for too long.
    """
    config, folder = job.config, job.folder
    folder.mkdir(parents=True, exist_ok=True)
    previous = _read_result(folder)
    skip = [list(batches) for batches in job.skip]
    if "diverged" in previous and previous["skip"] == skip:
        # An earlier launcher was killed before it could roll back.
        raise TrainingDiverged(previous["diverged"])
    (folder / RESULT_FILE).unlink(missing_ok=True)
    tail: deque[str] = deque(maxlen=MAX_TAIL_LINES)
    restarts_left = config.run.max_restarts
    while True:
        attempt = job if rendezvous is None else publish_job(rendezvous, job)
        attempt.save()
        code = torchrun(attempt, on_metrics, tail)
        # On one node torchrun itself restarts its workers; what is left is a torchrun that was killed.
        if code == 0 or restarts_left == 0 or (code > 0 and rendezvous is None):
            break
        restarts_left -= 1
        what = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        log.warning("torchrun %s: starting it again", what)
    if code != 0 or not (folder / RESULT_FILE).exists():
        output = "\n".join(tail)
        raise TrainingFailedError(f"training {config.name} ended with status {code}:\n{output}")
    result = _read_result(folder)
    if "diverged" in result:
        raise TrainingDiverged(result["diverged"])
    if "storage_unavailable" in result:
        (folder / RESULT_FILE).unlink()
        raise TrainingFailedError(
            f"training {config.name}: {result['storage_unavailable']}; run it again to resume from "
            "the last complete checkpoint"
        )
    if "error" in result:
        raise TrainingConfigError(result["error"])
    return result


def torchrun(job: TrainJob, on_metrics: OnMetrics, tail: deque[str]) -> int:
    """Run one torchrun on this node to its end; return its exit status.

    The job is saved in its folder. ``tail`` gets the output other than the lines of the log.
    """
    with managed_process(command(job), env=environment(job.config)) as process:
        assert process.stdout is not None
        for raw in process.stdout:
            text = raw.decode(errors="replace").rstrip()
            if text.startswith('{"step"'):
                on_metrics(json.loads(text))
            elif text:
                tail.append(text)
                log.debug("%s", text)
        return process.wait()


def command(job: TrainJob) -> list[str]:
    """Return the command line that trains on this node, alone or, with ``attempt_id``, with others."""
    run = job.config.run
    if job.attempt_id is None:
        options = [
            "--standalone",
            "--local-addr=127.0.0.1",  # the host's own name may not resolve
            f"--max-restarts={run.max_restarts}",
        ]
    else:
        options = torchrun_args(job)
    options += [
        f"--nproc-per-node={run.local_processes}",
        f"--log-dir={job.folder / LOG_DIR}",  # by default in the temporary folder, for ever
    ]
    program = ["-m", "lm.train.worker", str(job.folder)]
    return [sys.executable, "-m", "torch.distributed.run", *options, *program]


def environment(config: LoopConfig) -> dict[str, str]:
    """Return what the workers' environment has besides this process's."""
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {
        "OMP_NUM_THREADS": str(config.run.threads_per_process),
        "PYTHONPATH": os.pathsep.join(paths),
    }
    if config.run.num_nodes > 1 and config.run.rendezvous is not None:
        interface = interface_name(local_address(config.run.rendezvous))
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            variables[name] = os.environ.get(name, interface)
    elif sys.platform == "linux":
        variables["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    return variables


def _read_result(folder: Path) -> dict[str, Any]:
    path = folder / RESULT_FILE
    return dict(json.loads(path.read_bytes())) if path.exists() else {}
