"""Connections of clients that send or read too little: they are closed, so that none keeps a socket and a buffer."""

import asyncio
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

ABORT = "gristmill.abort"  # the key in a request's scope of what closes its connection at once


class Connection(HttpToolsProtocol):
    """A connection whose time is limited also before and after its requests.

    Until the head of a request is complete there is no request, and the time of none; after a response its end may still
    lie in a buffer, which closing a connection waits for. Both are ended without waiting.

    Attributes:
        timeout_s: in which a head has to come, from its first byte, of the first request from the start of the
            connection; also in which the client has to read the end of a response.
    """

    timeout_s = 30.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read a part of a request; what comes between two requests is the beginning of a head."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:  # type: ignore[redundant-expr]
            self._start_timer()

    def on_message_begin(self) -> None:
        """Let a request close its connection."""
        super().on_message_begin()
        cast("dict[str, object]", self.scope)[ABORT] = self.transport.abort

    def on_headers_complete(self) -> None:
        """Begin a request, whose own limits hold from here."""
        self._stop_timer()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, and not for ever until the client reads the end of the response."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._start_timer()

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.timeout_s, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
