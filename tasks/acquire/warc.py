"""Pages from existing WARC files, such as a slice of Common Crawl."""

from collections.abc import Iterator
from typing import Any

from infra.dataset.fingerprint import json_sha256
from infra.dataset.stage import PartResult, WorkUnit
from infra.formats import warc as archive
from infra.store.storage import open_url
from tasks.acquire.capture_parts import CapturePartWriter
from tasks.acquire.config import WarcSource
from tasks.acquire.http_verdict import (
    REDIRECT_STATUSES,
    FetchVerdict,
    classify_response,
    dropped_verdict,
    failed_verdict,
    is_html,
)
from tasks.acquire.input_files import InputFile, list_files
from tasks.acquire.web import page
from tasks.acquire.web.robots import product_token
from tasks.acquire.web.scope import canonicalize_url

MODULES = ("tasks.acquire.warc",)
LIBRARIES = ("fastwarc", "lxml")


def fingerprint_config(source: WarcSource) -> dict[str, Any]:
    """The settings that decide the output, as JSON values; paths and license do not."""
    return {
        "max_page_bytes": source.max_page_bytes,
        "robots_token": product_token(source.user_agent),
    }


def list_units(source: WarcSource) -> list[WorkUnit]:
    """One unit per file. Reads every file once, for its digest.

    Raises:
        UserError: if a pattern matches nothing or a file cannot be read.
    """
    return [
        WorkUnit(json_sha256({"file": file.digest, "name": file.name}), (source, file))
        for file in list_files(source.paths)
    ]


def read_warc(source: WarcSource, file: InputFile) -> Iterator[PartResult]:
    """The parts of one file: every record that represents a page has a verdict.

    Requests, metadata and warcinfo records represent none. Every damaged range of a file is one
    failure with its position; records before and after it are read.

    Args:
        source: the source's section of the recipe.
        file: its location and the digest of its bytes.
    """
    writer = CapturePartWriter(source.name)
    segment = file.segment(source.name)
    empty = True
    with open_url(file.url, file.options) as stream:
        for offset, item in archive.iter_captures_skipping_damage(
            stream, max_payload=source.max_page_bytes
        ):
            if isinstance(item, archive.DamagedRange):
                writer.add_rejected(
                    None, _damage_verdict(file, item), f"{file.digest} {offset}".encode()
                )
            elif item.kind != "metadata":
                _add_capture(writer, source, item, segment)
            if writer.full:
                yield writer.flush()
                empty = False
    if empty or len(writer):
        yield writer.flush()


def _damage_verdict(file: InputFile, damage: archive.DamagedRange) -> FetchVerdict:
    evidence = {"file": file.name, "offset": damage.offset, "error": damage.error}
    if damage.end is not None:
        return failed_verdict("damaged_warc", **evidence, bytes=damage.end - damage.offset)
    return failed_verdict("truncated_warc" if damage.records_read else "bad_warc", **evidence)


def _add_capture(
    writer: CapturePartWriter, source: WarcSource, capture: archive.Capture, segment: str
) -> None:
    url = canonicalize_url(capture.url) or capture.url
    verdict, robots = _classify(capture, source, url)
    if verdict.kept:
        writer.add_capture(capture, url, robots=robots, segment=segment)
    else:
        writer.add_rejected(url, verdict, capture.payload)


def _classify(
    capture: archive.Capture, source: WarcSource, url: str
) -> tuple[FetchVerdict, tuple[str, ...]]:
    location = capture.get_header("Location")
    if capture.kind == "response" and capture.status in REDIRECT_STATUSES and location:
        return dropped_verdict("redirect", target=canonicalize_url(location, url)), ()
    verdict = classify_response(capture, source.max_page_bytes)
    if not verdict.kept:
        return verdict, ()
    name = product_token(source.user_agent)
    directives = page.parse_directives(capture.get_all_headers("X-Robots-Tag"), name)
    if is_html(capture):
        content_type = capture.get_header("Content-Type")
        directives = page.parse_page(
            capture.payload, url, content_type, name, directives
        ).directives
    if page.forbids_index(directives):
        verdict = dropped_verdict("noindex", robots=", ".join(directives))
    return verdict, directives
