"""Real servers for tests, each on loopback and stopped when its block ends."""

import os
import secrets
import shutil
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from tests.limits import WAIT_TIMEOUT_S, wait_for
from tests.processes import TreeProcess, process_tree

BIN = Path(sys.executable).parent
_reservations: list[socket.socket] = []


def free_port() -> int:
    """Return a free port of loopback that nobody else is given while this process runs.

    A port that the kernel chooses may be chosen again, for another server or a connection, before the
    server that it is meant for listens. So the port is below the kernel's range, and a socket in the
    abstract namespace, which ends with this process, is the reservation that other processes see.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(first):
        port = first // 2 + secrets.randbelow(first // 2)
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0gristmill-test-port-{port}")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        _reservations.append(reservation)
        return port
    raise RuntimeError("no port is free")


@contextmanager
def server(
    command: list[str], log: Path, ready_url: str, env: Mapping[str, str] | None = None
) -> Iterator[TreeProcess]:
    """Start a server, wait until a URL responds, and kill the server at the end."""

    def responds() -> bool:
        try:
            with urllib.request.urlopen(ready_url, timeout=WAIT_TIMEOUT_S):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    with (
        log.open("wb") as sink,
        process_tree(command, {**os.environ, **(env or {})}, stdout=sink, stderr=sink) as process,
    ):
        try:
            wait_for(responds, process)
        except AssertionError as error:
            raise RuntimeError(f"{command[0]} did not start:\n{log.read_text()[-3000:]}") from error
        yield process


@contextmanager
def http_server(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve HTTP in a thread of this process; yield ``host:port``."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{running.server_port}"
        finally:
            running.shutdown()
            thread.join()


@dataclass(frozen=True)
class S3:
    """A running S3 server: the environment variables of its clients."""

    env: Mapping[str, str]
    bucket: str


@contextmanager
def s3_environment(env: Mapping[str, str]) -> Iterator[None]:
    """Let this process use an S3 server, and no client that it has made for another one."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            if name.startswith("AWS_"):
                patch.setenv(name, value)
        S3FileSystem.clear_instance_cache()
        try:
            yield
        finally:
            S3FileSystem.clear_instance_cache()


@dataclass(frozen=True)
class Weed:
    """A SeaweedFS that can be killed and restarted with its data, on the same ports."""

    command: list[str]
    env: Mapping[str, str]
    log: Path
    url: str

    @contextmanager
    def running(self) -> Iterator[S3]:
        """Start it, with one bucket."""
        with server(self.command, self.log, f"{self.url}/healthz", self.env):
            client = {
                **{key: value for key, value in self.env.items() if key.startswith("AWS_")},
                "AWS_ENDPOINT_URL": self.url,
                "AWS_DEFAULT_REGION": "us-east-1",
            }
            _wait_for_bucket(client)
            yield S3(client, "corpus")


def weed(folder: Path, address: str = "127.0.0.1", prefix: Sequence[str] = ()) -> Weed:
    """Configure SeaweedFS on free ports.

    Args:
        folder: for its data and its log.
        address: of the host that it runs on.
        prefix: what its command starts with, to run on that host.
    """
    binary = BIN / "weed"
    if not binary.exists():
        raise RuntimeError(f"{binary} is missing: run make setup")
    port = free_port()
    env = {
        "AWS_ACCESS_KEY_ID": "devkey",
        "AWS_SECRET_ACCESS_KEY": "devsecret",
        "GOMEMLIMIT": "300MiB",
    }
    ports = {name: free_port() for name in ("master", "filer", "volume", "admin")}
    grpc = [f"-{name}.port.grpc={free_port()}" for name in ("master", "filer", "volume", "s3")]
    command = [
        *prefix,
        str(binary),
        "-logtostderr=true",
        "mini",
        f"-dir={folder}",
        f"-ip={address}",
        f"-ip.bind={address}",
        f"-s3.port={port}",
        "-bucket=corpus",
        "-s3.autoCreateBucket=false",
        "-master.telemetry=false",
        "-admin.ui=false",
        "-webdav=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        *[f"-{name}.port={number}" for name, number in ports.items()],
        *grpc,
    ]
    folder.mkdir(parents=True, exist_ok=True)
    return Weed(command, env, folder / "weed.log", f"http://{address}:{port}")


@contextmanager
def seaweed(folder: Path) -> Iterator[S3]:
    """Run SeaweedFS on a free port, with one bucket."""
    with weed(folder).running() as s3:
        yield s3


def _wait_for_bucket(env: Mapping[str, str]) -> None:
    """Wait until the bucket exists; the S3 port responds slightly earlier."""
    client = S3FileSystem(
        key=env["AWS_ACCESS_KEY_ID"],
        secret=env["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=env["AWS_ENDPOINT_URL"],
        client_kwargs={"region_name": env["AWS_DEFAULT_REGION"]},
        skip_instance_cache=True,
    )

    def is_writable() -> bool:
        try:
            client.pipe_file("corpus/ready", b"1")
            client.rm("corpus/ready")
        except OSError:
            return False
        return True

    wait_for(is_writable)


def chromium() -> str:
    """Return the browser's executable."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path:
            return path
    raise RuntimeError("no Chromium: run scripts/system-deps.sh")
