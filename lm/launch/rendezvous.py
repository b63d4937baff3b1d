"""Several machines in one run: where they meet, and how the others learn of it.

The first machine publishes each start of the run as a file beside the checkpoints, which all of
them reach. A process that dies anywhere ends this start on every machine, and the first one
publishes the next: so each has a rendezvous and a store of its own, and nobody meets what a killed
process left behind.
"""

import json
import secrets
import socket
from collections.abc import Mapping
from typing import Any

import psutil

from infra.errors import UserError
from infra.store.storage import Storage
from lm.config.train import TrainConfig

JOB_FILE = "job.json"
JOIN_TIMEOUT_S = 600  # seconds that machines wait for each other (torchrun's default)
READ_TIMEOUT_S = 60  # seconds that one waits for the other to answer at all
ANY_PORT = 9  # for asking the kernel about a route; nothing is sent


def rendezvous_store(config: TrainConfig, name: str) -> Storage | None:
    """Where the machines of a run find each other; ``None`` if there is one.

    Args:
        config: what is trained.
        name: of the model's data set.
    """
    if config.run.num_nodes == 1 or config.run.checkpoint_url is None:
        return None
    return Storage(config.run.checkpoint_url).subdir("rendezvous", name)


def publish_job(rendezvous: Storage, job: Mapping[str, Any]) -> dict[str, Any]:
    """Tell the other machines of a start; returns the job with its ``start_id``."""
    told = {**job, "start_id": secrets.token_hex(8)}
    rendezvous.write(JOB_FILE, json.dumps(told).encode())
    return told


def publish_end(rendezvous: Storage, reason: str) -> None:
    """Tell the other machines that the run has ended without a model."""
    rendezvous.write(JOB_FILE, json.dumps({"ended": reason}).encode())


def read_job(rendezvous: Storage) -> dict[str, Any] | None:
    """The last that was told, if anything was."""
    try:
        return dict(json.loads(rendezvous.read(JOB_FILE)))
    except FileNotFoundError:
        return None


def torchrun_args(config: TrainConfig, start_id: str, *, is_first_node: bool) -> list[str]:
    """Options of torchrun for one of several machines."""
    assert config.run.rendezvous is not None
    return [
        f"--nnodes={config.run.num_nodes}",
        f"--local-addr={local_address(config.run.rendezvous)}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={config.run.rendezvous}",
        f"--rdzv-id={start_id}",
        f"--rdzv-conf=is_host={int(is_first_node)},join_timeout={JOIN_TIMEOUT_S},read_timeout={READ_TIMEOUT_S}",
        "--max-restarts=0",  # this start is over when a process dies; see above
    ]


def global_rank(node: int, first_node: int, local_world_size: int, local_rank: int) -> int:
    """The rank of a process if the first machine has the first ranks.

    Args:
        node: its machine, as torchrun numbers them.
        first_node: the first machine, as torchrun numbers them.
        local_world_size: on each machine.
        local_rank: the process's number on its machine.
    """
    place = 0 if node == first_node else node + (node < first_node)
    return place * local_world_size + local_rank


def local_address(endpoint: str) -> str:
    """The address of this machine from which it reaches ``host:port``.

    Raises:
        UserError: if the host has no address or there is no way to it.
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
        raise UserError(f"rendezvous {endpoint}: there is no way to it ({error})") from None


def interface_name(address: str) -> str:
    """The name of the network interface that has an address. Raises ``UserError``."""
    for name, known in psutil.net_if_addrs().items():
        if any(item.address.partition("%")[0] == address for item in known):
            return name
    raise UserError(f"no network interface of this machine has the address {address}")
