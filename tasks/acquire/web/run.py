"""Runs the crawler as a child process and turns its spool into parts."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from infra.compute.processes import child
from infra.compute.progress import Progress, Reporter
from infra.dataset.ledger import KEPT
from infra.dataset.stage import Outcome
from infra.errors import UserError
from infra.removals.match import Removal
from tasks.acquire.capture_parts import STAGE, Parts, payload_digest
from tasks.acquire.config import WebSource
from tasks.acquire.http_verdict import Fate
from tasks.acquire.web.spool import CRAWL_LOG, Spool, locked, scratch

_LOG_TAIL = 2000  # characters of the crawler's log in an error message


def folder(fingerprint: str) -> Path:
    """Where the crawl for a data set keeps what it has fetched until the data set is committed."""
    return scratch() / fingerprint[:32]


def web(
    source: WebSource, fingerprint: str, reporter: Reporter, removals: Sequence[Removal] = ()
) -> Iterator[Outcome]:
    """Crawls a site, or goes on with a crawl that was cut off, and yields its parts.

    Args:
        source: the source's section of the recipe.
        fingerprint: of the data set that is being made: equal ones share a crawl.
        reporter: told about pages fetched.
        removals: what was taken out: its addresses are not asked for.
    """
    where = folder(fingerprint)
    with locked(where):
        spool = Spool(where)
        rows = spool.verdicts()
        if rows is None:
            spool.close()
            _crawl(source, where, reporter, removals)
            spool = Spool(where)
            rows = spool.verdicts() or []
        try:
            yield from parts(source.name, spool, rows)
        finally:
            spool.close()


def _crawl(source: WebSource, where: Path, reporter: Reporter, removals: Sequence[Removal]) -> None:
    config = where / "config.json"
    options = {
        "source": source.facts(),
        "removals": [item.facts() for item in removals],
        "spool": str(where),
        "parent": os.getpid(),
    }
    config.write_text(json.dumps(options), encoding="utf-8")
    log = where / CRAWL_LOG
    command = [sys.executable, "-m", "tasks.acquire.web.crawler", str(config)]
    with log.open("ab") as errors, child(command, stderr=errors) as process:
        _follow(process, source, reporter)
        status = process.wait()
    if status != 0:
        tail = log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:]
        raise UserError(f"source {source.name}: the crawler ended with status {status}\n{tail}")


def _follow(process: subprocess.Popen[bytes], source: WebSource, reporter: Reporter) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        try:
            told = json.loads(line)
            note = f"{told['fetched']} pages fetched, {told['queued']} in the next wave"
            done = min(int(told["fetched"]), source.max_pages)
        except (ValueError, KeyError, TypeError):
            continue
        reporter.update(Progress(STAGE, source.name, done, source.max_pages, note))


def parts(source: str, spool: Spool, rows: list[dict[str, Any]]) -> Iterator[Outcome]:
    """The parts of a finished crawl, by canonical URL; at least one.

    Args:
        source: the source's name.
        spool: what was fetched.
        rows: its verdicts, sorted by URL.
    """
    segment = f"{source}-{_segment(spool, rows)}"
    collected = Parts(source)
    empty = True
    for row in rows:
        url = row["url"]
        if row["verdict"] == KEPT:
            capture = spool.capture(url)
            collected.keep(capture, url, robots=row["robots"], segment=segment)
        else:
            content = spool.capture(url).payload if url in spool.offsets else b""
            fate = Fate(row["verdict"], row["reason"], row["evidence"])
            collected.reject(url, fate, content)
        if collected.full:
            yield collected.take()
            empty = False
    if empty or len(collected):
        yield collected.take()


def _segment(spool: Spool, rows: list[dict[str, Any]]) -> str:
    """12 hexadecimal characters of all addresses kept and of what they gave; no fetch times."""
    hasher = hashlib.sha256()
    for row in rows:
        if row["verdict"] == KEPT:
            digest = payload_digest(spool.capture(row["url"]).payload)
            hasher.update(f"{row['url']} {digest}\n".encode())
    return hasher.hexdigest()[:12]
