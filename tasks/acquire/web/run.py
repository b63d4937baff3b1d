"""Run the crawler as a child process and turn its spool into parts."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from infra.compute.processes import managed_process
from infra.compute.progress import Progress, Reporter
from infra.dataset.ledger import Verdict
from infra.dataset.stage import PartResult
from infra.errors import UserError
from infra.removals.match import Removal
from tasks.acquire.capture_parts import CapturePartWriter, payload_digest
from tasks.acquire.source import STAGE_NAME
from tasks.acquire.web.config import WebSource
from tasks.acquire.web.spool import CRAWL_LOG, Spool, spool_root

_LOG_TAIL_CHARS = 2000  # characters of the crawler's log in an error message


def spool_folder(fingerprint: str) -> Path:
    """The folder of a crawl on this machine, until its data set is committed."""
    return spool_root() / fingerprint[:32]


def crawl_site(
    source: WebSource, fingerprint: str, reporter: Reporter, removals: Sequence[Removal] = ()
) -> Iterator[PartResult]:
    """Crawl a site, or resume a crawl that was interrupted, and yield its parts.

    Equal fingerprints (of the data set) use the same folder, ``spool_folder``, which the caller keeps from
    other runs. Removed URLs are not requested.
    """
    folder = spool_folder(fingerprint)
    spool = Spool(folder)
    rows = spool.read_verdicts()
    if rows is None:
        spool.close()
        _run_crawler(source, folder, reporter, removals)
        spool = Spool(folder)
        rows = spool.read_verdicts() or []
    try:
        yield from iter_parts(source.name, spool, rows)
    finally:
        spool.close()


def _run_crawler(
    source: WebSource, crawl_folder: Path, reporter: Reporter, removals: Sequence[Removal]
) -> None:
    config = crawl_folder / "config.json"
    options = {
        "source": source.to_json(),
        "removals": [item.to_json() for item in removals],
        "spool": str(crawl_folder),
        "parent": os.getpid(),
    }
    config.write_text(json.dumps(options), encoding="utf-8")
    log = crawl_folder / CRAWL_LOG
    command = [sys.executable, "-m", "tasks.acquire.web.crawler", str(config)]
    with log.open("ab") as errors, managed_process(command, stderr=errors) as process:
        _relay_progress(process, source, reporter)
        status = process.wait()
    if status != 0:
        tail = log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL_CHARS:]
        raise UserError(f"source {source.name}: the crawler ended with status {status}\n{tail}")


def _relay_progress(
    process: subprocess.Popen[bytes], source: WebSource, reporter: Reporter
) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        try:
            counts = json.loads(line)
            values = {"fetched": float(counts["fetched"]), "queued": float(counts["queued"])}
        except (ValueError, KeyError, TypeError):
            continue
        progress = Progress(
            STAGE_NAME,
            source.name,
            min(int(values["fetched"]), source.max_pages),
            source.max_pages,
            f"{counts['queued']:,} in the next level",
            values,
            units="pages",
            total_is_limit=True,
        )
        reporter.update(progress)


def iter_parts(source: str, spool: Spool, rows: list[dict[str, Any]]) -> Iterator[PartResult]:
    """The parts of a complete crawl of a source, in the order of its verdicts; at least one."""
    segment = f"{source}-{_segment_digest(spool, rows)}"
    writer = CapturePartWriter(source)
    for row in rows:
        url = row["url"]
        verdict = Verdict(row["reason"], row["evidence"], row["failed"])
        if verdict.kept:
            capture = spool.read_capture(url)
            writer.add_capture(capture, url, verdict, robots=row["robots"], segment=segment)
        else:
            content = spool.read_capture(url).payload if url in spool.offsets else b""
            writer.add_rejected(url, verdict, content)
        yield from writer.take_full()
    yield from writer.take_rest()


def _segment_digest(spool: Spool, rows: list[dict[str, Any]]) -> str:
    """12 hexadecimal digits of all kept URLs and their payloads, without fetch times."""
    hasher = hashlib.sha256()
    for row in rows:
        if row["reason"] is None:
            digest = payload_digest(spool.read_capture(row["url"]).payload)
            hasher.update(f"{row['url']} {digest}\n".encode())
    return hasher.hexdigest()[:12]
