"""The folder of a stack: its ports, secrets, logs and data, made at the first start."""

import json
import os
import shlex
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from infra.deploy.stack.credentials import write_certificates, write_secrets
from infra.errors import UserError

BUCKET = "gristmill"
REGION = "us-east-1"
LOOPBACK = "127.0.0.1"
# What a stranger's process listens on is left alone: Postgres and Redis do not use their usual ports.
DEFAULT_PORTS = {
    "prefect": 4200,
    "worker": 4201,
    "dask": 8786,
    "dashboard": 8787,
    "s3": 8333,
    "s3_grpc": 18333,
    "master": 9333,
    "master_grpc": 19333,
    "volume": 9340,
    "volume_grpc": 19340,
    "filer": 8888,
    "filer_grpc": 18888,
    "admin": 23646,
    "admin_grpc": 33646,
    "postgres": 54320,
    "redis": 63790,
}
MARKER = "GRISTMILL_STACK"  # in the environment of all processes of a stack: its folder
MAX_SOCKET_PATH = 100  # Linux allows 107 bytes; supervisord appends the number of its process


@dataclass(frozen=True)
class Layout:
    """A stack's folder and what is in it."""

    folder: Path
    ports: Mapping[str, int]

    @property
    def config(self) -> Path:
        """Where supervisord's configuration is."""
        return self.folder / "supervisord.conf"

    @property
    def socket(self) -> Path:
        """Where supervisord listens for commands."""
        return self.folder / "supervisor.sock"

    @property
    def env_file(self) -> Path:
        """Where the environment variables of clients are."""
        return self.folder / "env"

    @property
    def tls(self) -> Path:
        """Where Dask's certificates are."""
        return self.folder / "secrets" / "tls"

    def log(self, service: str) -> Path:
        """Where the output of a service is."""
        return self.folder / "logs" / f"{service}.log"

    def data(self, service: str) -> Path:
        """Where the data of a service is."""
        return self.folder / service

    @cached_property
    def secrets(self) -> Mapping[str, str]:
        """The passwords, by name."""
        return {
            path.name: path.read_text(encoding="ascii").strip()
            for path in (self.folder / "secrets").iterdir()
            if path.is_file()
        }

    @property
    def api_url(self) -> str:
        """The address of Prefect's API."""
        return f"http://{LOOPBACK}:{self.ports['prefect']}/api"

    @property
    def s3_url(self) -> str:
        """The address of the object store."""
        return f"http://{LOOPBACK}:{self.ports['s3']}"

    @property
    def scheduler(self) -> str:
        """The address of the Dask scheduler."""
        return f"tls://{LOOPBACK}:{self.ports['dask']}"

    def client_env(self) -> dict[str, str]:
        """The environment variables of whoever uses the stack."""
        certificate, key = str(self.tls / "cert.pem"), str(self.tls / "key.pem")
        tls = "DASK_DISTRIBUTED__COMM__TLS__"
        return {
            "PREFECT_API_URL": self.api_url,
            "PREFECT_API_AUTH_STRING": f"gristmill:{self.secrets['prefect']}",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "AWS_ENDPOINT_URL": self.s3_url,
            "AWS_ACCESS_KEY_ID": "gristmill",
            "AWS_SECRET_ACCESS_KEY": self.secrets["s3"],
            "AWS_DEFAULT_REGION": REGION,
            f"{tls}CA_FILE": str(self.tls / "ca.pem"),
            f"{tls}CLIENT__CERT": certificate,
            f"{tls}CLIENT__KEY": key,
            f"{tls}WORKER__CERT": certificate,
            f"{tls}WORKER__KEY": key,
            f"{tls}SCHEDULER__CERT": certificate,
            f"{tls}SCHEDULER__KEY": key,
        }


def create_layout(folder: Path, ports: Mapping[str, int]) -> Layout:
    """Make what is missing in the folder of a stack.

    Args:
        folder: the stack's folder.
        ports: those that differ from before, or from the defaults.

    Raises:
        UserError: if the folder cannot be used, or a port is none of the stack's.
    """
    if unknown := set(ports) - set(DEFAULT_PORTS):
        raise UserError(
            f"--port {unknown.pop()}: not a port of the stack; there are {', '.join(DEFAULT_PORTS)}"
        )
    folder = folder.absolute()
    if len(os.fsencode(folder / "supervisor.sock")) > MAX_SOCKET_PATH:
        raise UserError(
            f"{folder}: the path is too long for a socket; use a folder with a path of at most "
            f"{MAX_SOCKET_PATH - len('/supervisor.sock')} bytes"
        )
    try:
        for path in (folder, folder / "secrets", folder / "secrets" / "tls", folder / "logs"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        saved: dict[str, int] = {}
        with suppress(FileNotFoundError):
            saved = json.loads((folder / "ports.json").read_bytes())
        layout = Layout(folder, {**DEFAULT_PORTS, **saved, **ports})
        (folder / "ports.json").write_text(json.dumps(layout.ports, indent=1), encoding="ascii")
        write_secrets(folder / "secrets")
        write_certificates(layout.tls, LOOPBACK)
        lines = [f"export {name}={shlex.quote(v)}\n" for name, v in layout.client_env().items()]
        layout.env_file.touch(mode=0o600)
        layout.env_file.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}: {error.filename}") from error
    except ValueError as error:
        raise UserError(f"{folder / 'ports.json'}: not JSON ({error}); delete it") from error
    return layout


def load_layout(folder: Path) -> Layout:
    """Read the folder of a stack that was started before.

    Raises:
        UserError: if it was not.
    """
    folder = folder.absolute()
    try:
        return Layout(folder, json.loads((folder / "ports.json").read_bytes()))
    except FileNotFoundError:
        raise UserError(f"{folder}: no stack was started here; start one with make stack") from None


def is_port_free(port: int) -> bool:
    """Return whether nothing listens on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
