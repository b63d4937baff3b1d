"""A real web site on loopback, with every fault a crawler meets, and a log of its requests."""

import gzip
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.progress import NullReporter, Progress
from infra.dataset.stage import Context
from infra.store.storage import Storage
from tasks.acquire.web.config import WebSource
from tests.limits import WAIT_TIMEOUT_S

HUGE = 50_000_000


@dataclass(frozen=True)
class Reply:
    """What the site answers."""

    body: bytes = b""
    content_type: str | None = "text/html; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: float = 0.0
    cut: bool = False
    repeat: int = 1


def html(title: str, *links: str, head: str = "", words: int = 120) -> Reply:
    """A page of prose."""
    anchors = "".join(f'<li><a href="{link}">{link}</a></li>' for link in links)
    prose = "".join(
        f"<p>{title} says in sentence {i} that the mill grinds slowly, and fine, and {i * 7}.</p>"
        for i in range(words // 12)
    )
    text = (
        f'<!doctype html><html lang="en"><head><title>{title}</title>{head}</head>'
        f"<body><nav><ul>{anchors}</ul></nav><article><h1>{title}</h1>{prose}</article></body></html>"
    )
    return Reply(text.encode())


class Site:
    """Pages by path. `requests` has every request in the order of arrival; `is_open` lets them be answered."""

    def __init__(self, pages: Mapping[str, Reply], delay: float = 0.0) -> None:
        self.pages = dict(pages)
        self.requests: list[tuple[float, str, dict[str, str]]] = []
        self.delay = delay
        self.url = ""
        self.is_open = threading.Event()
        self.is_open.set()

    @property
    def paths(self) -> list[str]:
        """The requested paths without robots.txt."""
        return [path for _, path, _ in self.requests if path != "/robots.txt"]


@contextmanager
def serve(site: Site) -> Iterator[Site]:
    """The site on a free port of 127.0.0.1 until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            site.requests.append((time.monotonic(), self.path, dict(self.headers)))
            reply = site.pages.get(self.path, Reply(b"not here", status=404))
            site.is_open.wait(WAIT_TIMEOUT_S)
            time.sleep(reply.wait or site.delay)
            self.send_response(reply.status)
            if reply.content_type is not None:
                self.send_header("Content-Type", reply.content_type)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            size = len(reply.body) * reply.repeat
            self.send_header("Content-Length", str(size + 1000 * reply.cut))
            self.end_headers()
            for _ in range(reply.repeat):
                self.wfile.write(reply.body)
            if reply.cut:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that hung up is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def tree(size: int, fan: int = 3) -> dict[str, Reply]:
    """A site of `size` pages: page i links to its children and, for loops, to its parent."""
    pages = {}
    for i in range(size):
        children = [str(n) for n in range(fan * i + 1, fan * i + fan + 1) if n < size]
        parent = max(i - 1, 0) // fan
        links = [*(f"/{n}" for n in children), f"/{parent or ''}"]
        pages[f"/{i or ''}"] = html(f"Page {i}", *links)
    return pages


def faulty() -> dict[str, Reply]:
    """A site with one page for every fault."""
    packed = gzip.compress(html("Packed", "/packed-child").body)
    pages = {
        "/robots.txt": Reply(b"User-agent: *\nDisallow: /private\n", "text/plain"),
        "/good/": html("Good", "/good/child?b=2&a=1#part", "child?b=2&a=1", "../good/./"),
        "/good/child?b=2&a=1": html("Child"),
        "/moved": Reply(status=301, headers={"Location": "/target"}),
        "/target": html("Target"),
        "/away": Reply(status=302, headers={"Location": "http://example.invalid/"}),
        "/loop": Reply(status=302, headers={"Location": "/loop"}),
        "/error": Reply(b"oops", status=500),
        "/slow": Reply(b"<p>late</p>", wait=11.0),
        "/huge": Reply(b"x" * (HUGE // 50), repeat=50),
        "/bomb": Reply(gzip.compress(b"x" * HUGE), headers={"Content-Encoding": "gzip"}),
        "/packed": Reply(packed, headers={"Content-Encoding": "gzip"}),
        "/packed-child": html("Packed child"),
        "/torn": Reply(packed[:-20], headers={"Content-Encoding": "gzip"}),
        "/damaged": Reply(
            packed[:20] + b"\xff" * 20 + packed[40:], headers={"Content-Encoding": "gzip"}
        ),
        "/cut": Reply(b"<p>half", cut=True),
        "/private/a": html("Private"),
        "/noindex": html("Noindex", "/behind-noindex", head='<meta name=robots content="noindex">'),
        "/behind-noindex": html("Behind noindex"),
        "/tagged": Reply(html("Tagged").body, headers={"X-Robots-Tag": "noindex"}),
        "/nofollow": html("Nofollow", "/hidden", head='<meta name=robots content="nofollow">'),
        "/hidden": html("Hidden"),
        "/latin1": Reply("<p>caf\xe9 au lait, d\xe9j\xe0 vu</p>".encode("latin-1"), "text/html"),
        "/broken-utf8": Reply(
            b"<html><body><p>d\xc3\xa9j\xc3\xa0 good \xff bad bytes</p></body></html>"
        ),
        "/image.png": Reply(b"\x89PNG" + b"\0" * 500_000, "image/png"),
        "/notes.txt": Reply(b"Plain notes.\nSecond line.\n", "text/plain"),
        "/empty": Reply(b""),
        "/untyped": Reply(html("Untyped").body, None),
    }
    start = [path for path in pages if path not in ("/robots.txt", "/target", "/hidden")]
    front = [path for path in start if "behind" not in path and "child" not in path]
    pages["/"] = html("Front", *front, "/missing", "http://example.invalid/x", "mailto:a@b.c")
    return pages


def source(site: Site, **more: Any) -> WebSource:
    """A crawl of the site without delay."""
    settings = {"name": "site", "kind": "web", "start_urls": [f"{site.url}/"], "delay": 0.0}
    return WebSource.model_validate({**settings, **more})


class Listener(NullReporter):
    """Record every progress report."""

    def __init__(self) -> None:
        self.received: list[Progress] = []

    def update(self, progress: Progress) -> None:
        """Keep it."""
        self.received.append(progress)


def context(store: Any, reporter: NullReporter | None = None) -> Context:
    """A run whose units run in this process."""
    cluster = DaskCluster(ClusterConfig.model_validate({"workers": 0}))
    return Context(Storage(str(store)), 1, cluster, reporter or NullReporter())
