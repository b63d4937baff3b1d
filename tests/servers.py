"""Real servers for tests, each on loopback and stopped when its block ends."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent


def free_port() -> int:
    """Return a port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(
    command: list[str],
    log: Path,
    ready_url: str,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a server, wait until a URL responds, and kill the server at the end."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            stdout=sink,
            stderr=sink,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + timeout_s
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start:\n{log.read_text()[-3000:]}")
            try:
                with urllib.request.urlopen(ready_url, timeout=2):
                    break
            except urllib.error.HTTPError:
                break  # it responds
            except OSError:
                time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class S3:
    """A running S3 server: the environment variables of its clients."""

    env: Mapping[str, str]
    bucket: str


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
        with server(self.command, self.log, f"{self.url}/healthz", 30, self.env):
            client = {
                **{key: value for key, value in self.env.items() if key.startswith("AWS_")},
                "AWS_ENDPOINT_URL": self.url,
                "AWS_DEFAULT_REGION": "us-east-1",
            }
            _wait_for_bucket(client)
            yield S3(client, "corpus")


def weed(folder: Path) -> Weed:
    """Configure SeaweedFS on free ports."""
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
        str(binary),
        "-logtostderr=true",
        "mini",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
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
    return Weed(command, env, folder / "weed.log", f"http://127.0.0.1:{port}")


@contextmanager
def seaweed(folder: Path) -> Iterator[S3]:
    """Run SeaweedFS on a free port, with one bucket."""
    with weed(folder).running() as s3:
        yield s3


def _wait_for_bucket(env: Mapping[str, str]) -> None:
    """Wait until the bucket exists; the S3 port responds slightly earlier."""
    code = (
        "import s3fs; fs = s3fs.S3FileSystem(); "
        "fs.pipe_file('corpus/ready', b'1'); fs.rm('corpus/ready')"
    )
    error = ""
    for _ in range(20):
        process = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **env},
            capture_output=True,
            check=False,
        )
        if process.returncode == 0:
            return
        error = process.stderr.decode()[-2000:]
        time.sleep(0.3)
    raise RuntimeError(error)


def chromium() -> str:
    """Return the browser's executable."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path:
            return path
    raise RuntimeError("no Chromium: run scripts/system-deps.sh")
