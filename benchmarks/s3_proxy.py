"""A proxy of an S3 server that counts requests, and disturbs them on demand, for clients in any process."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

# What happens to a request: the server never sees it and an error is the answer, or it is answered late, or
# the answer ends in the middle of its body, or the connection ends without an answer.
Disturbance = Literal["SlowDown", "InternalError", "ExpiredToken", "late", "half", "reset"]
STATUS = {"SlowDown": 503, "InternalError": 500, "ExpiredToken": 403}
DELAY_S = 3.0


@dataclass
class S3Proxy:
    """A running proxy.

    Attributes:
        url: its address.
        requests: how many requests came, by method.
        bytes: of bodies, in both directions.
        disturb: what happens to the request of a number and a method; ``None`` of it: nothing.
        disturbed: how many requests something happened to.
    """

    url: str = ""
    requests: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    disturb: Callable[[int, str], Disturbance | None] = lambda _number, _method: None
    disturbed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, method: str) -> Disturbance | None:
        """Count a request, and decide what happens to it."""
        with self._lock:
            self.requests[method] += 1
            disturbance = self.disturb(self.requests.total(), method)
            self.disturbed += disturbance is not None
            return disturbance

    def add(self, n_bytes: int) -> None:
        """Count bytes of bodies."""
        with self._lock:
            self.bytes += n_bytes


@contextmanager
def s3_proxy(target: str) -> Iterator[S3Proxy]:
    """Serve a proxy of an S3 server on loopback.

    The header ``Host`` is passed on as it came, because the client has signed it.
    """
    proxy = S3Proxy()
    upstream = urlsplit(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            disturbance = proxy.begin(self.command)
            if disturbance == "reset":
                self.close_connection = True
                return
            if disturbance in STATUS:
                self._refuse(disturbance)
                return
            if disturbance == "late":
                time.sleep(DELAY_S)
            connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port)
            try:
                connection.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                for name, value in self.headers.items():
                    if name.lower() not in ("connection", "expect"):
                        connection.putheader(name, value)
                connection.endheaders(body)
                answer = connection.getresponse()
                data = answer.read()
            except OSError:
                self.close_connection = True  # as its client would see it without a proxy
                return
            finally:
                connection.close()
            proxy.add(len(body) + len(data))
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(data)))
            self.end_headers()
            if disturbance == "half":
                data = data[: len(data) // 2]
                self.close_connection = True
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward  # noqa: N815 - http.server's names

        def _refuse(self, code: str) -> None:
            data = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
            self.send_response_only(STATUS[code])
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
