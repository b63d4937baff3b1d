"""Pages from WARC files that exist already, such as a slice of Common Crawl."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from infra.dataset.fingerprint import digest
from infra.dataset.stage import Outcome, Unit
from infra.formats import warc as archive
from infra.store.storage import open_url
from tasks.acquire.capture_parts import Parts
from tasks.acquire.config import WarcSource
from tasks.acquire.http_verdict import REDIRECTS, Fate, dropped, failed, is_html, judge
from tasks.acquire.input_files import InputFile, scan
from tasks.acquire.web import page
from tasks.acquire.web.robots import token
from tasks.acquire.web.scope import canonical

MODULES = ("tasks.acquire.warc",)
LIBRARIES = ("fastwarc", "lxml")


def config(source: WarcSource) -> dict[str, Any]:
    """What of the source's settings decides the output: not the paths, not the licence."""
    return {"max_page_bytes": source.max_page_bytes, "robots_token": token(source.user_agent)}


def units(source: WarcSource) -> list[Unit]:
    """One unit per file. Reads every file once, for its digest.

    Raises:
        UserError: if a pattern matches nothing or a file cannot be read.
    """
    return [
        Unit(digest({"file": file.digest, "name": file.name}), (source, file))
        for file in scan(source.paths)
    ]


def read_warc(source: WarcSource, file: InputFile) -> Iterator[Outcome]:
    """The parts of one file: every record that stands for a page has a verdict.

    Requests, metadata and warcinfo records stand for none. Every stretch of a file that is damaged
    is one failure that says where it is; what lies before and behind it goes through.

    Args:
        source: the source's section of the recipe.
        file: where it is, and the digest of its bytes.
    """
    collected = Parts(source.name)
    segment = file.segment(source.name)
    empty = True
    with open_url(file.url, file.options) as stream:
        for offset, found in archive.salvage(stream, max_payload=source.max_page_bytes):
            if isinstance(found, archive.Damage):
                collected.reject(None, _damaged(file, found), f"{file.digest} {offset}".encode())
            elif found.kind != "metadata":
                _add(collected, source, found, segment)
            if collected.full:
                yield collected.take()
                empty = False
    if empty or len(collected):
        yield collected.take()


def _damaged(file: InputFile, damage: archive.Damage) -> Fate:
    evidence = {"file": file.name, "offset": damage.offset, "error": damage.error}
    if damage.end is not None:
        return failed("damaged_warc", **evidence, bytes=damage.end - damage.offset)
    return failed("truncated_warc" if damage.records else "bad_warc", **evidence)


def _add(collected: Parts, source: WarcSource, capture: archive.Capture, segment: str) -> None:
    url = canonical(capture.url) or capture.url
    fate, robots = _judge(capture, source, url)
    if fate.kept:
        collected.keep(capture, url, robots=robots, segment=segment)
    else:
        collected.reject(url, fate, capture.payload)


def _judge(capture: archive.Capture, source: WarcSource, url: str) -> tuple[Fate, tuple[str, ...]]:
    location = capture.header("Location")
    if capture.kind == "response" and capture.status in REDIRECTS and location:
        return dropped("redirect", target=canonical(location, url)), ()
    fate = judge(capture, source.max_page_bytes)
    if not fate.kept:
        return fate, ()
    name = token(source.user_agent)
    found = page.directives(capture.all("X-Robots-Tag"), name)
    if is_html(capture):
        content_type = capture.header("Content-Type")
        found = page.parse(capture.payload, url, content_type, name, found).directives
    if page.forbids_index(found):
        fate = dropped("noindex", robots=", ".join(found))
    return fate, found
