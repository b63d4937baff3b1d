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

FILE = "job.json"
JOIN_PATIENCE = 600  # seconds that machines wait for each other (torchrun's default)
CALL_PATIENCE = 60  # seconds that one waits for the other to answer at all
ANY_PORT = 9  # for asking the kernel about a route; nothing is sent


def meeting(config: TrainConfig, name: str) -> Storage | None:
    """Where the machines of a run find each other; ``None`` if there is one.

    Args:
        config: what is trained.
        name: of the model's data set.
    """
    if config.nodes == 1 or config.checkpoints is None:
        return None
    return Storage(config.checkpoints).at("meeting", name)


def publish(meet: Storage, job: Mapping[str, Any]) -> dict[str, Any]:
    """Tell the other machines of a start; returns the job with its ``start_id``."""
    told = {**job, "start_id": secrets.token_hex(8)}
    meet.put(FILE, json.dumps(told).encode())
    return told


def end(meet: Storage, reason: str) -> None:
    """Tell the other machines that the run has ended without a model."""
    meet.put(FILE, json.dumps({"ended": reason}).encode())


def published(meet: Storage) -> dict[str, Any] | None:
    """The last that was told, if anything was."""
    try:
        return dict(json.loads(meet.read(FILE)))
    except FileNotFoundError:
        return None


def options(config: TrainConfig, start_id: str, *, first: bool) -> list[str]:
    """Options of torchrun for one of several machines."""
    assert config.rendezvous is not None
    return [
        f"--nnodes={config.nodes}",
        f"--local-addr={own_address(config.rendezvous)}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={config.rendezvous}",
        f"--rdzv-id={start_id}",
        f"--rdzv-conf=is_host={int(first)},join_timeout={JOIN_PATIENCE},read_timeout={CALL_PATIENCE}",
        "--max-restarts=0",  # this start is over when a process dies; see above
    ]


def rank_of(machine: int, first: int, processes: int, local: int) -> int:
    """The rank of a process if the first machine has the first ranks.

    Args:
        machine: its machine, as torchrun numbers them.
        first: the first machine, as torchrun numbers them.
        processes: on each machine.
        local: the process's number on its machine.
    """
    place = 0 if machine == first else machine + (machine < first)
    return place * processes + local


def own_address(rendezvous: str) -> str:
    """The address of this machine from which it reaches ``host:port``.

    Raises:
        UserError: if the host has no address or there is no way to it.
    """
    host, _, port = rendezvous.rpartition(":")
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            host.strip("[]"), int(port) or ANY_PORT, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise UserError(f"rendezvous {rendezvous}: there is no way to it ({error})") from None


def interface(address: str) -> str:
    """The name of the network interface that has an address. Raises ``UserError``."""
    for name, known in psutil.net_if_addrs().items():
        if any(item.address.partition("%")[0] == address for item in known):
            return name
    raise UserError(f"no network interface of this machine has the address {address}")
