"""``gristmill serve`` as a process."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.limits import WAIT_TIMEOUT_S
from tests.processes import TreeProcess, process_tree

GRISTMILL = str(Path(sys.executable).parent / "gristmill")


class ServeCommand:
    """A running command, a client of it and its log."""

    def __init__(self, process: TreeProcess, started: Mapping[str, Any], log: Path) -> None:
        self.process = process
        self.started = started
        self.url = str(started["url"])
        self.log = log
        self.client = httpx.Client(base_url=self.url, timeout=WAIT_TIMEOUT_S)

    def requests(self) -> list[dict[str, Any]]:
        """Return the log lines of requests."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line[:1] == "{"]
        return [line for line in lines if line["message"] == "request"]


@contextmanager
def serve_command(folder: Path, *arguments: str) -> Iterator[ServeCommand]:
    """Run it on a free port.

    Args:
        folder: for its log.
        arguments: of the command.
    """
    log = folder / "serve.log"
    command = [GRISTMILL, "serve", *arguments, "--port", "0", "--json"]
    with (
        log.open("wb") as sink,
        process_tree(command, stdout=subprocess.PIPE, stderr=sink) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        running = ServeCommand(process, json.loads(line), log)
        with running.client:
            yield running
