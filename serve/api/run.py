"""Run the endpoint in this process until it is told to stop."""

import asyncio
import ipaddress
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from infra.errors import UserError
from serve.api.connection import Connection

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 75
BACKLOG = 2048


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """Take an address; it accepts nothing yet.

    Raises:
        UserError: if it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
    except (OSError, OverflowError) as error:
        taken.close()
        raise UserError(f"--host {host} --port {port}: {error}; choose another --port") from None
    return taken


def socket_url(bound: socket.socket) -> str:
    """Return the URL of an address."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server_config(app: ASGIApp, grace_s: int) -> uvicorn.Config:
    """Return how an application is served; see ``run``."""
    return uvicorn.Config(
        app,
        http=Connection,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=grace_s,
        backlog=BACKLOG,
        ws="none",
    )


class _Server(uvicorn.Server):
    """A server that ends without an error when it is told to, also while it prepares."""

    def __init__(
        self,
        config: uvicorn.Config,
        prepare: Callable[[], Awaitable[None]],
        on_start: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._prepare = prepare
        self._on_start = on_start
        self._preparing: asyncio.Future[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Prepare, listen, and say so."""
        self._preparing = asyncio.ensure_future(self._prepare())
        await asyncio.wait([self._preparing])
        if self._preparing.cancelled():
            return
        self._preparing.result()
        await super().startup(sockets)
        if self.started:
            self._on_start()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on the first signal; on a second one, without waiting for requests."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self._stop, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _stop(self, number: int) -> None:
        is_preparing = self._preparing is not None and not self._preparing.done()
        if self.should_exit:
            self.force_exit = True
            if is_preparing:  # in what cannot be cancelled: a file that is downloaded or written
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            return
        self.should_exit = True
        if self._preparing is not None and is_preparing:
            log.info("%s: the start is abandoned", signal.Signals(number).name)
            self._preparing.cancel()
            return
        running = len(self.server_state.tasks)
        log.info("%s: %d requests are finished first", signal.Signals(number).name, running)


async def run(
    app: ASGIApp,
    bound: socket.socket,
    grace_s: int,
    *,
    prepare: Callable[[], Awaitable[None]],
    on_start: Callable[[], None],
) -> bool:
    """Serve until SIGINT or SIGTERM; return whether it came so far that requests were answered.

    Args:
        app: what answers.
        bound: the address.
        grace_s: how long running requests may take then; later they are ended.
        prepare: is awaited before requests are accepted, and cancelled by a signal. Its errors are raised.
        on_start: is called when requests are answered.
    """
    server = _Server(server_config(app, grace_s), prepare, on_start)
    await server.serve(sockets=[bound])
    return server.started
