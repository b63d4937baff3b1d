"""Pages from WARC files that exist already, such as a slice of Common Crawl."""

from __future__ import annotations

from collections.abc import Iterator

from infra import warc as archive
from infra.stage import Outcome, Stage, Unit
from infra.storage import open_url
from tasks.acquire.config import WarcSource
from tasks.acquire.outcome import REDIRECTS, Fate, dropped, failed, is_html, judge
from tasks.acquire.parts import STAGE, Parts
from tasks.acquire.plan import Plan, files
from tasks.acquire.web import page
from tasks.acquire.web.robots import token
from tasks.acquire.web.urls import canonical

STAGE_CODE = Stage(
    STAGE,
    modules=(
        "tasks.acquire.warc",
        "tasks.acquire.outcome",
        "tasks.acquire.parts",
        "tasks.acquire.web.page",
        "tasks.acquire.web.urls",
        "infra.warc",
    ),
    libraries=("fastwarc", "lxml"),
    # A record's compressed bytes are those of the machine's zlib.
    deterministic=False,
)


def plan(source: WarcSource) -> Plan:
    """One unit per file."""
    chosen = {
        "name": source.name,
        "kind": source.kind,
        "max_page_bytes": source.max_page_bytes,
        "user_agent": source.user_agent,
    }
    found = files(source.paths)
    units = tuple(
        Unit(f"{file.name} {file.digest}", (source, file.url, file.name, file.digest))
        for file in found
    )
    return Plan(STAGE_CODE, chosen, units, read)


def read(source: WarcSource, url: str, name: str, digest: str) -> Iterator[Outcome]:
    """The parts of one file: every record that stands for a page has a verdict.

    Requests, metadata and warcinfo records stand for none. A file that is cut short, or whose
    middle is damaged, gives what lies before the damage and one failure that says where that is.

    Args:
        source: the source's section of the recipe.
        url: where the file is.
        name: its base name.
        digest: SHA-256 of its bytes.
    """
    collected = Parts(source.name)
    segment = f"{source.name}-{digest[:12]}"
    empty = True
    try:
        with open_url(url) as stream:
            for _, capture in archive.captures(stream, max_payload=source.max_page_bytes):
                if capture.kind == "metadata":
                    continue
                _add(collected, source, capture, segment)
                if collected.full:
                    yield collected.take()
                    empty = False
    except archive.Broken as error:
        reason = "truncated_warc" if error.records else "bad_warc"
        evidence = {"file": name, "offset": error.offset, "error": error.error}
        collected.reject(f"file:{name}", failed(reason, **evidence))
    except OSError as error:
        evidence = {"file": name, "error": type(error).__name__}
        collected.reject(f"file:{name}", failed("unreadable_file", **evidence))
    if empty or len(collected):
        yield collected.take()


def _add(collected: Parts, source: WarcSource, capture: archive.Capture, segment: str) -> None:
    url = canonical(capture.url) or capture.url
    fate, robots = _judge(capture, source, url)
    if fate.kept:
        collected.keep(capture, url, robots=robots, segment=segment)
    else:
        collected.reject(url, fate, capture.payload)


def _judge(
    capture: archive.Capture, source: WarcSource, url: str
) -> tuple[Fate, tuple[str, ...]]:
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


