"""The containers of the Compose file as processes of this machine: exact commands, variables and health checks.

What differs: names of hosts and ports are those of this machine, folders are below a temporary one.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from infra.deploy.prepare import prepare
from tests.limits import wait_for
from tests.processes import ROOT, TreeProcess, process_tree
from tests.servers import free_port

COMPOSE = ROOT / "infra" / "deploy" / "compose" / "compose.yaml"
NATIVE = (
    "redis",
    "s3",
    "dask-scheduler",
    "dask-worker",
    "prefect-api",
    "prefect-services",
    "prefect-worker",
)
PORTS = ("4200", "5432", "6379", "8080", "8333", "8786", "8787", "8790")
HOSTS = ("postgres", "redis", "s3", "dask-scheduler", "prefect-api")
# What SeaweedFS opens besides: in a container nobody else is there, here a stack may be.
WEED_PORTS = [
    f"{name}.port{kind}"
    for name in ("master", "volume", "filer", "admin")
    for kind in ("", ".grpc")
]


class Containers:
    """The services of the Compose file, translated to this machine."""

    def __init__(self, folder: Path, postgres_port: int, postgres_password: str) -> None:
        self.services: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
        self._folder = folder
        self._ports = {**{port: str(free_port()) for port in PORTS}, "5432": str(postgres_port)}
        self._secrets = folder / "secrets"
        self._secrets.mkdir(parents=True)
        (self._secrets / "postgres").write_text(postgres_password)
        prepare(folder)
        for path in self._secrets.iterdir():
            if path.is_file() and path.name.startswith("PREFECT"):
                path.write_text(self._translate(path.read_text()))

    def _translate(self, text: str) -> str:
        text = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", text).replace("$$", "$")
        text = re.sub(rf"\b({'|'.join(PORTS)})\b", lambda m: self._ports[m[1]], text)
        text = re.sub(rf"(?<![\w-])({'|'.join(HOSTS)})(?=:\d|$)", "127.0.0.1", text)
        text = text.replace("0.0.0.0", "127.0.0.1")
        # Last, because the new folders contain the old names.
        paths = {name: str(self._folder / name[1:]) for name in ("/data", "/tmp")}
        paths |= {"/run/secrets": str(self._secrets), "/opt/gristmill": str(ROOT)}
        names = "|".join(paths)
        return re.sub(rf"(?<![\w/-])({names})\b", lambda m: paths[m[1]], text)

    def _env(self, service: Mapping[str, Any]) -> dict[str, str]:
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "AWS_", "DASK_"))
        }
        values: dict[str, str] = {}
        environment = service.get("environment", {})
        merged = environment.get("<<", {})
        for part in (*(merged if isinstance(merged, list) else [merged]), environment):
            values |= {name: self._translate(value) for name, value in part.items() if name != "<<"}
        return {
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
            "PREFECT_HOME": str(self._folder / "prefect"),
            "SECRETS_FOLDER": str(self._secrets),
            "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            **values,
        }

    def _command(self, name: str) -> list[str]:
        command = [self._translate(str(word)) for word in self.services[name]["command"]]
        if name == "redis":  # the image's own entry point only changes the user
            return [*command[:2], f"{command[2]} --bind 127.0.0.1 --port {self._ports['6379']}"]
        if name == "s3":
            command += [f"-{port}={free_port()}" for port in (*WEED_PORTS, "s3.port.grpc")]
        return [str(ROOT / "infra" / "deploy" / "image" / "entrypoint.sh"), *command]

    def is_healthy(self, name: str) -> bool:
        """Run the health check of a service."""
        service = self.services[name]
        kind, *test = service["healthcheck"]["test"]
        command = [self._translate(word) for word in test]
        if name == "redis":
            command[0] = command[0].replace("redis-cli", f"redis-cli -p {self._ports['6379']}")
        if kind == "CMD-SHELL":
            command = ["sh", "-c", *command]
        result = subprocess.run(command, env=self._env(service), capture_output=True, check=False)
        return result.returncode == 0

    @contextmanager
    def run(self, name: str) -> Iterator[TreeProcess]:
        """Run a service while the block lasts."""
        (self._folder / "data").mkdir(exist_ok=True)
        (self._folder / "tmp").mkdir(exist_ok=True)
        with (
            (self._folder / f"{name}.log").open("wb") as log,
            process_tree(
                self._command(name),
                self._env(self.services[name]),
                cwd=ROOT,
                stdout=log,
                stderr=log,
            ) as process,
        ):
            yield process

    @contextmanager
    def run_all(self) -> Iterator[dict[str, TreeProcess]]:
        """Run all services, each after those that it depends on are healthy."""
        running: dict[str, TreeProcess] = {}
        healthy: set[str] = set()
        with ExitStack() as stack:
            for name in NATIVE:
                for needed in self.services[name].get("depends_on", {}):
                    if needed in running and needed not in healthy:
                        self.wait(needed, running)
                        healthy.add(needed)
                running[name] = stack.enter_context(self.run(name))
            for name in set(running) - healthy:
                self.wait(name, running)
            yield running

    def wait(self, name: str, running: Mapping[str, TreeProcess]) -> None:
        """Wait until a service is healthy."""
        try:
            wait_for(lambda: self.is_healthy(name), running[name], poll_interval_s=0.5)
        except AssertionError as error:
            log = (self._folder / f"{name}.log").read_text()[-3000:]
            command = shlex.join(self._command(name))
            raise AssertionError(f"{name} is not healthy: {command}\n{log}") from error
