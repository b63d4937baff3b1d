"""A port that one test was given is not given to another one, in this process or another."""

import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests import servers
from tests.processes import ROOT

OTHER_PROCESS = """
import secrets
from tests.servers import free_port
numbers = iter([{taken}, {next}])
secrets.randbelow = lambda _: next(numbers)
print(free_port())
"""


def kernel_range() -> tuple[int, int]:
    first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    return int(first), int(last)


def test_a_port_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    port = servers.free_port()
    assert port < kernel_range()[0], "the kernel gives it to whoever asks for any port"
    base = kernel_range()[0] // 2
    numbers = iter([port - base, servers.free_port() - base])
    monkeypatch.setattr(secrets, "randbelow", lambda _: next(numbers))
    with pytest.raises(StopIteration):
        servers.free_port()


def test_another_process_is_given_another_port() -> None:
    base = kernel_range()[0] // 2
    taken, following = servers.free_port(), servers.free_port()
    servers._reservations.pop().close()  # of the second
    script = OTHER_PROCESS.replace("{taken}", str(taken - base)).replace(
        "{next}", str(following - base)
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(result.stdout) == following
