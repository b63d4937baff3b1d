"""Hosts of their own on this machine: network namespaces on a bridge, each with an address and a link."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

_NAME = re.compile(r"gm(\d+)(-\w+)?")


def ip(*words: str) -> str:
    """Run the command ``ip``."""
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True)
class Host:
    """A network namespace.

    Attributes:
        namespace: its name.
        address: its only address, apart from loopback.
        link: the end of its cable at the bridge.
    """

    namespace: str
    address: str
    link: str

    @property
    def prefix(self) -> list[str]:
        """What a command starts with to run on this host."""
        return ["ip", "netns", "exec", self.namespace]

    def disconnect(self) -> None:
        """Pull the cable: packets are lost, and nobody is told."""
        ip("link", "set", self.link, "down")

    def connect(self) -> None:
        """Plug the cable in again."""
        ip("link", "set", self.link, "up")

    def lose(self, other: "Host") -> None:
        """Lose what is sent to another host, without an error: it goes to an address that nobody has."""
        neighbor = ["neigh", "replace", other.address, "lladdr", "02:00:00:00:00:fe"]
        ip("-n", self.namespace, *neighbor, "nud", "permanent", "dev", "eth0")

    def find(self, other: "Host") -> None:
        """Reach the other host again."""
        ip("-n", self.namespace, "neigh", "delete", other.address, "dev", "eth0")


@contextmanager
def partition(first: Host, second: Host) -> Iterator[None]:
    """Let two hosts lose what they send each other while the block lasts."""
    first.lose(second)
    second.lose(first)
    try:
        yield
    finally:
        first.find(second)
        second.find(first)


@contextmanager
def hosts(*names: str) -> Iterator[tuple[Host, ...]]:
    """Make hosts that can reach each other and this machine, but nothing else.

    Skips the test where namespaces cannot be made.
    """
    if sys.platform != "linux" or shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux and the command ip")
    _delete_stale()
    bridge = f"gm{os.getpid()}"
    subnet = f"10.232.{os.getpid() % 254}"
    made = tuple(
        Host(f"{bridge}-{name}", f"{subnet}.{number}", f"{bridge}v{number}")
        for number, name in enumerate(names, 1)
    )
    try:
        try:
            ip("link", "add", bridge, "type", "bridge")
            ip("address", "add", f"{subnet}.254/24", "dev", bridge)
            ip("link", "set", bridge, "up")
            for host in made:
                ip("netns", "add", host.namespace)
                inner = ["peer", "name", "eth0", "netns", host.namespace]
                ip("link", "add", host.link, "type", "veth", *inner)
                ip("link", "set", host.link, "master", bridge, "up")
                ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
                ip("-n", host.namespace, "link", "set", "eth0", "up")
                ip("-n", host.namespace, "link", "set", "lo", "up")
        except (subprocess.CalledProcessError, OSError) as error:
            message = (getattr(error, "stderr", "") or str(error)).strip()
            pytest.skip(f"network namespaces cannot be made here: {message}")
        yield made
    finally:
        _delete(bridge, [host.namespace for host in made])


def _delete(bridge: str, namespaces: list[str]) -> None:
    for name in namespaces:
        with suppress(subprocess.CalledProcessError):
            ip("netns", "delete", name)  # its links go with it
    with suppress(subprocess.CalledProcessError):
        ip("link", "delete", bridge)


def _delete_stale() -> None:
    """Delete what test processes that were killed have left."""
    folder = Path("/run/netns")
    found: dict[int, list[str]] = {}
    for path in [*folder.glob("gm*"), *Path("/sys/class/net").glob("gm*")]:
        match = _NAME.fullmatch(path.name)
        if match is not None and not psutil.pid_exists(int(match[1])):
            names = found.setdefault(int(match[1]), [])
            names += [path.name] if path.parent == folder else []
    for process, names in found.items():
        _delete(f"gm{process}", names)
