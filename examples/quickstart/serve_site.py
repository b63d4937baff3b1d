"""Serve the site over HTTP on this machine, to be crawled as any other site."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from examples.quickstart.site import ROBOTS

HOST = "127.0.0.1"
PORT = 8907


class PortTakenError(Exception):
    """Something else listens on the port."""


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open, as real sites do

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Log nothing: the crawler's own log lists the requests."""

    def list_directory(self, path: object) -> None:  # noqa: ARG002 - the base's signature
        """Answer 404 where a folder has no index page, instead of listing it."""
        self.send_error(404)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextmanager
def serve_site(folder: Path, port: int = PORT) -> Iterator[str]:
    """Serve a folder while the context lasts.

    Args:
        folder: the site.
        port: the port on the loopback interface; 0 takes any free one.

    Yields:
        The site's address, without a slash at its end. When the same site is already served on
        the port, as by `python -m examples.quickstart serve`, that one is used.

    Raises:
        PortTakenError: something else listens on the port.
    """
    try:
        server = _Server((HOST, port), partial(_Handler, directory=str(folder)))
    except OSError as error:
        url = f"http://{HOST}:{port}"
        if not _is_ours(url):
            raise PortTakenError(
                f"port {port} is in use by another program; choose one with --port"
            ) from error
        yield url
        return
    thread = threading.Thread(
        target=partial(server.serve_forever, 0.1), name="quickstart-site", daemon=True
    )
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _is_ours(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/robots.txt", timeout=5) as response:  # noqa: S310 - http
            return bool(response.read(4096).decode("utf-8", "replace") == ROBOTS)
    except (urllib.error.URLError, OSError):
        return False
