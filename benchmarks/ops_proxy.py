"""Count the requests that pass to an S3 server, by method, for clients in any process."""

import http.client
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class RequestCounter:
    """The number of requests by method, and of the bytes of bodies in both directions."""

    def __init__(self) -> None:
        """Start at zero."""
        self.requests: Counter[str] = Counter()
        self.bytes = 0
        self.url = ""
        self._lock = threading.Lock()

    def add(self, method: str, n_bytes: int) -> None:
        """Count one request."""
        with self._lock:
            self.requests[method] += 1
            self.bytes += n_bytes


@contextmanager
def counting_proxy(target: str) -> Iterator[RequestCounter]:
    """Serve a proxy of an S3 server on loopback; its URL is the counter's ``url``.

    The header ``Host`` is passed on as it came, because the client has signed it.
    """
    counter = RequestCounter()
    upstream = urlsplit(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
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
            finally:
                connection.close()
            counter.add(self.command, len(body) + len(data))
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    counter.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield counter
    finally:
        server.shutdown()
        server.server_close()
