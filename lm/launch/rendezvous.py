"""Multi-node training: how nodes find each other and learn of an attempt.

An attempt is one start of a run's processes on all nodes. The first node publishes each attempt as a
file beside the checkpoints, which all nodes can reach. A process that dies on any node ends it on all
of them, and the first node publishes the next one, with a fresh rendezvous and store, so that it
never sees state left by a killed process.
"""

import json
import secrets
import socket
from dataclasses import replace
from typing import Any

import psutil

from infra.errors import UserError
from infra.store.environment import mask
from infra.store.storage import Storage
from lm.config.loop import LoopConfig
from lm.train.job import JOB_FILE, TrainJob

JOIN_TIMEOUT_S = 600  # for all nodes to join a rendezvous; torchrun's default
READ_TIMEOUT_S = 60  # for one answer of the rendezvous' host
ANY_PORT = 9  # for asking the kernel about a route; nothing is sent


def rendezvous_store(config: LoopConfig, name: str) -> Storage | None:
    """Return where nodes that train the data set ``name`` find each other; ``None`` for one node."""
    if config.run.num_nodes == 1 or config.run.checkpoint_url is None:
        return None
    return Storage(config.run.checkpoint_url).subdir("rendezvous", name)


def publish_job(rendezvous: Storage, job: TrainJob) -> TrainJob:
    """Publish an attempt for the other nodes; return the job with its ``attempt_id``."""
    attempt = replace(job, attempt_id=secrets.token_hex(8))
    rendezvous.write(JOB_FILE, json.dumps(attempt.to_json()).encode())
    return attempt


def publish_end(rendezvous: Storage, reason: str) -> None:
    """Publish for the other nodes that the run has ended without a model."""
    rendezvous.write(JOB_FILE, json.dumps({"ended": mask(reason)}).encode())


def read_job(rendezvous: Storage) -> dict[str, Any] | None:
    """Return what was published last: a job as JSON, or ``{"ended": reason}``."""
    try:
        return dict(json.loads(rendezvous.read(JOB_FILE)))
    except FileNotFoundError:
        return None


def torchrun_args(job: TrainJob) -> list[str]:
    """Return torchrun's options for one of several nodes."""
    run = job.config.run
    assert run.rendezvous is not None
    timeouts = f"join_timeout={JOIN_TIMEOUT_S},read_timeout={READ_TIMEOUT_S}"
    return [
        f"--nnodes={run.num_nodes}",
        f"--local-addr={local_address(run.rendezvous)}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={run.rendezvous}",
        f"--rdzv-id={job.attempt_id}",
        f"--rdzv-conf=is_host={int(job.is_first_node)},{timeouts}",
        "--max-restarts=0",  # the first node starts again, with a fresh rendezvous
    ]


def local_address(endpoint: str) -> str:
    """Return the address of this node from which it reaches ``host:port``.

    Raises:
        UserError: if the host has no address or there is no route to it.
    """
    host, _, port = endpoint.rpartition(":")
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            host.strip("[]"), int(port) or ANY_PORT, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise UserError(f"rendezvous {endpoint} is not reachable: {error}") from None


def interface_name(address: str) -> str:
    """Return the network interface that has an address. Raises ``UserError`` if none has."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(item.address.partition("%")[0] == address for item in addresses):
            return name
    raise UserError(f"no network interface of this machine has the address {address}")
