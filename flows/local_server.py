"""The process of the Prefect server that runs without a server of their own share on this machine.

Started by ``flows.prefect_server``; runs are its clients. Each holds a connection to it, which the
kernel closes however the run ends. The server ends with the last one, unless that run asked it to
stay for the next.

The protocol, one line each: a run sends the token, and receives ``ready PORT`` once the API answers.
Before it closes, it may send ``keep SECONDS``, or ``quit 0`` if it is in a hurry. The connection of the run that started the server is
inherited, and needs no token.

This file is run by its path, and imports Prefect only when a lost run can already end it.
"""

import gc
import hmac
import json
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

SHUTDOWN_TIMEOUT_S = 5.0  # for requests that are being answered; then the process ends at once
LOOPBACK = "127.0.0.1"
GC_THRESHOLD = 100_000  # as in cli/main.py


class Clients:
    """The runs that use this server, and until when it stays without any."""

    def __init__(self, token: str, state_file: Path, state: dict[str, Any]) -> None:
        """Listen for further runs on a free port of the loopback interface."""
        self._token, self._state_file, self._state = token, state_file, state
        self._listener = socket.create_server((LOOPBACK, 0))
        self._changed = threading.Condition()
        self._connected = 0
        self._keep_until = 0.0
        self._in_a_hurry = False
        self._ready = threading.Event()
        self.api_port = 0
        self.server: Any = None

    def serve(self, first: socket.socket) -> None:
        """Serve the run that started this process, and all that connect later."""
        self._connected = 1
        for target, arguments in (
            (self._serve, (first,)),
            (self._accept, ()),
            (self._end_when_idle, ()),
        ):
            threading.Thread(target=target, args=arguments, daemon=True).start()

    def set_ready(self) -> None:
        """Publish the server: write its state file, which only this user can read."""
        self._state |= {
            "pid": os.getpid(),
            "api_port": self.api_port,
            "control_port": self._listener.getsockname()[1],
            "token": self._token,
        }
        temporary = self._state_file.with_suffix(f".{os.getpid()}")
        with os.fdopen(
            os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w"
        ) as sink:
            json.dump(self._state, sink)
        temporary.replace(self._state_file)
        self._ready.set()

    def withdraw(self) -> None:
        """Remove the state file, unless it is that of another server by now."""
        with suppress(OSError, ValueError):
            if json.loads(self._state_file.read_text())["token"] == self._token:
                self._state_file.unlink()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed: this process is ending
                return
            threading.Thread(target=self._admit, args=(connection,), daemon=True).start()

    def _admit(self, connection: socket.socket) -> None:
        with connection, connection.makefile("r") as lines:
            if not hmac.compare_digest(lines.readline().strip().encode(), self._token.encode()):
                return
            with self._changed:
                if self.server is not None and self.server.should_exit:
                    return  # too late: the run starts another server
                self._connected += 1
            self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        """Count a run as connected until its connection ends."""
        keep_s = 0.0
        try:
            threading.Thread(target=self._greet, args=(connection,), daemon=True).start()
            with connection.makefile("r") as lines:
                for line in lines:
                    verb, _, value = line.partition(" ")
                    self._in_a_hurry = verb == "quit"
                    keep_s = float(value)
        except (OSError, ValueError):  # the run was killed
            pass
        with self._changed:
            self._connected -= 1
            self._keep_until = max(self._keep_until, time.monotonic() + keep_s)
            self._changed.notify_all()
            ending = self._is_idle()
        if not ending:
            connection.close()  # otherwise it closes when this process has ended

    def _greet(self, connection: socket.socket) -> None:
        self._ready.wait()
        with suppress(OSError):
            connection.sendall(f"ready {self.api_port}\n".encode())

    def _is_idle(self) -> bool:
        return self._connected == 0 and time.monotonic() >= self._keep_until

    def _end_when_idle(self) -> None:
        with self._changed:
            while not self._is_idle():
                left = self._keep_until - time.monotonic()
                self._changed.wait(left if self._connected == 0 else None)
            if self.server is None:  # still starting
                os._exit(1)
            self.server.should_exit = True
        self._listener.close()
        self.withdraw()
        if self._in_a_hurry:
            os._exit(0)
        time.sleep(SHUTDOWN_TIMEOUT_S)
        os._exit(1)


def main() -> None:
    """Run the server: the arguments are the inherited connection, the state file, and its content."""
    descriptor, state_file, state = sys.argv[1:]
    first = socket.socket(fileno=int(descriptor))
    first.set_inheritable(False)
    token = os.environ["PREFECT_SERVER_API_AUTH_STRING"]
    clients = Clients(token, Path(state_file), json.loads(state))
    clients.serve(first)

    gc.set_threshold(GC_THRESHOLD)
    import uvicorn
    from prefect.server.api.server import create_app

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                clients.set_ready()

    app = create_app(ephemeral=True, final=True)
    api = socket.create_server((LOOPBACK, 0))
    clients.api_port = api.getsockname()[1]
    config = uvicorn.Config(
        app,
        log_level="error",
        lifespan="on",
        timeout_graceful_shutdown=int(SHUTDOWN_TIMEOUT_S) - 1,
    )
    clients.server = Server(config)
    try:
        clients.server.run(sockets=[api])
    finally:
        clients.withdraw()
    if not clients.server.started:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
