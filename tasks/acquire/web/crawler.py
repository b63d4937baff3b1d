"""The crawler's own process: ``python -m tasks.acquire.web.crawler CONFIG_JSON_FILE``.

A Twisted reactor cannot be started twice in a process, so every crawl has one of its own. It reads
its configuration from a file, stores what it fetches in a spool, and writes a line of JSON about
its progress to standard output at intervals.
"""

import asyncio
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import scrapy
from scrapy import signals
from scrapy.crawler import AsyncCrawlerProcess, Crawler
from scrapy.exceptions import StopDownload
from scrapy.http import Headers, Request, Response

from infra.compute.processes import die_with_parent
from infra.dataset.ledger import Verdict, dropped
from infra.formats.http_body import BodyDecodeError, BodyTruncatedError, decode_body
from infra.formats.urls import canonicalize_url, redirect_target
from infra.formats.warc import TRUNCATED, Capture, current_warc_date
from infra.removals.match import REMOVED, Removal, match_table
from tasks.acquire.http_response import REDIRECT_STATUSES, is_supported_type
from tasks.acquire.web import page, robots
from tasks.acquire.web.config import WebSource
from tasks.acquire.web.fetcher import Fetcher
from tasks.acquire.web.frontier import Frontier
from tasks.acquire.web.scope import Scope, host, origin
from tasks.acquire.web.spool import Spool

# Seconds between two lines of progress.
PROGRESS_INTERVAL_S = 0.5


class BreadthFirstSpider(scrapy.Spider):
    """Fetch one level of links after the other and store every response in the spool.

    Scrapy fetches (connections, TLS, proxies, size and time limits). Bodies are decoded here, as those
    of archives are, and the order of pages is decided here: Scrapy's scheduler follows arrival order.
    """

    name = "breadth_first"

    def __init__(
        self, source: WebSource, spool: Spool, removals: Sequence[Removal] = (), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.spool = spool
        self.product_token = robots.product_token(source.user_agent)
        start = sorted(
            {url for raw in source.start_urls if (url := canonicalize_url(raw)) is not None}
        )
        scope = Scope(start, source.allow, source.deny)
        self.frontier = Frontier(start, scope, source.max_pages, source.max_depth)
        self.removals = removals
        self.removed_urls: dict[str, Removal] = {}
        self.robots_rules: dict[str, robots.RobotsRules] = {}
        self.directives: dict[str, tuple[str, ...]] = {}
        self.error: BaseException | None = None
        self._fetcher = Fetcher(source, self._download)
        self._last_progress = 0.0

    @classmethod
    def from_crawler(cls, crawler: Crawler, *args: Any, **kwargs: Any) -> Self:
        """Create the spider, as Scrapy requires."""
        spider = super().from_crawler(crawler, *args, **kwargs)
        crawler.signals.connect(spider._skip_unsupported_body, signal=signals.headers_received)
        crawler.signals.connect(spider._stop_at_robots_limit, signal=signals.bytes_received)
        return spider

    async def start(self) -> AsyncIterator[Any]:
        """Crawl the site. Scrapy's scheduler is not used, so nothing is yielded."""
        try:
            while self.frontier.num_queued:
                self._skip_removed()
                await self._prepare_robots()
                urls_of_level = self.frontier.next_level(self._check_url)
                async with asyncio.TaskGroup() as group:
                    for urls in _group_by_host(urls_of_level):
                        queue = iter(urls)
                        for _ in range(min(self.source.concurrency, len(urls))):
                            group.create_task(self._run_worker(queue))
            self.spool.write_verdicts(self._iter_verdict_rows())
            self._print_progress(force=True)
        except BaseException as error:
            self.error = error
            raise
        return
        yield  # type: ignore[unreachable]  # this makes it a generator

    async def _run_worker(self, queue: Iterator[str]) -> None:
        for url in queue:
            if url not in self.spool:
                await self._fetch(url)
            self._process(url)
            self._print_progress()

    def _process(self, url: str) -> None:
        """Process a response from the spool, whether it was fetched now or before a crash."""
        failure = self.spool.failures.get(url)
        if failure is not None:
            self.frontier.record(url, Verdict(failure["reason"], failure["evidence"], failed=True))
            return
        verdict, parsed = page.judge_response(
            self.spool.read_capture(url), url, self.product_token, self.source.max_page_bytes
        )
        if verdict.reason == "redirect":
            self.frontier.redirect(url, (verdict.evidence or {})["target"])
            return
        self.directives[url] = parsed.directives
        self.frontier.record(url, verdict, parsed.links)

    # URLs that are not requested

    def _skip_removed(self) -> None:
        """Find the removed URLs of the next level, so that not even robots.txt is requested for them."""
        if self.removals:
            urls = self.frontier.candidates()
            matches = match_table(
                pa.table({"url": pa.array(urls, pa.string())}), self.removals
            ).tolist()
            self.removed_urls = {
                url: self.removals[index]
                for url, index in zip(urls, matches, strict=True)
                if index >= 0
            }

    def _check_url(self, url: str) -> Verdict | None:
        if url in self.removed_urls:
            return dropped(REMOVED, **self.removed_urls[url].to_json())
        rules = self.robots_rules[origin(url)]
        if not rules.can_fetch(url):
            return dropped("robots", status=self.spool.robots[origin(url)][0])
        if rules.crawl_delay > self.source.max_crawl_delay:
            return dropped("crawl_delay", seconds=rules.crawl_delay)
        return None

    async def _prepare_robots(self) -> None:
        if self.frontier.exhausted:
            return
        allowed = (url for url in self.frontier.candidates() if url not in self.removed_urls)
        origins = {origin(url) for url in allowed} - self.robots_rules.keys()
        async with asyncio.TaskGroup() as group:
            for item in sorted(origins):
                group.create_task(self._read_robots(item))

    async def _read_robots(self, site_origin: str) -> None:
        if site_origin not in self.spool.robots:
            self.spool.add_robots(
                site_origin, *await self._fetch_robots(f"{site_origin}/robots.txt")
            )
        status, body = self.spool.robots[site_origin]
        rules = robots.parse_rules(status, body, self.source.user_agent)
        self.robots_rules[site_origin] = rules
        if rules.crawl_delay <= self.source.max_crawl_delay:  # else it is not crawled at all
            self._fetcher.require_delay(host(site_origin), rules.crawl_delay)

    async def _fetch_robots(self, url: str) -> tuple[int | None, bytes]:
        for _ in range(robots.MAX_REDIRECTS + 1):
            response = await self._fetcher.request(url, robots_file=True)
            if not isinstance(response, Response):
                return None, b""
            location = response.headers.get(b"Location")
            if response.status not in REDIRECT_STATUSES or location is None:
                try:
                    body, _ = _decode_body(response, robots.MAX_ROBOTS_BYTES)
                except BodyDecodeError:
                    return None, b""
                return response.status, body[: robots.MAX_ROBOTS_BYTES]
            target = redirect_target(location.decode("latin-1"), url)
            if target is None:
                return 404, b""
            url = target
        return 404, b""

    # Fetching

    async def _download(self, request: Request) -> Response:
        assert self.crawler.engine is not None
        return await self.crawler.engine.download_async(request)

    async def _fetch(self, url: str) -> None:
        response = await self._fetcher.request(url)
        if isinstance(response, Verdict):
            self.spool.add_failure(url, str(response.reason), dict(response.evidence or {}))
            return
        payload, truncated = b"", None
        content_type = _content_type(response.headers)
        if response.status in (200, 203) and is_supported_type(content_type):
            limit = self.source.max_page_bytes
            try:
                payload, truncated = _decode_body(response, limit)
            except BodyDecodeError as error:
                self.spool.add_failure(url, "bad_encoding", {"error": str(error)})
                return
            if len(payload) > limit:
                self.spool.add_failure(url, "too_large", {"limit": limit})
                return
        self.spool.add(
            Capture(
                url=url,
                date=current_warc_date(),
                status=response.status,
                reason="",
                headers=_sorted_headers(response.headers),
                payload=payload,
                truncated=truncated,
            )
        )

    def _skip_unsupported_body(self, headers: Headers, request: Request, **_: Any) -> None:
        """Do not download the bodies of pictures, archives and the like."""
        if not request.meta["robots_file"] and not is_supported_type(_content_type(headers)):
            raise StopDownload(fail=False)

    def _stop_at_robots_limit(self, data: bytes, request: Request, **_: Any) -> None:
        """Download no more of a robots.txt than is read of it."""
        if request.meta["robots_file"]:
            request.meta["received"] = request.meta.get("received", 0) + len(data)
            if request.meta["received"] >= robots.MAX_ROBOTS_BYTES:
                raise StopDownload(fail=False)

    # Results

    def _iter_verdict_rows(self) -> Iterator[dict[str, Any]]:
        for url, verdict in sorted(self.frontier.verdicts.items()):
            yield {
                "url": url,
                "reason": verdict.reason,
                "evidence": verdict.evidence,
                "failed": verdict.failed,
                "robots": list(self.directives.get(url, ())),
            }

    def _print_progress(self, *, force: bool = False) -> None:
        if force or time.monotonic() - self._last_progress > PROGRESS_INTERVAL_S:
            self._last_progress = time.monotonic()
            line = {"fetched": len(self.spool), "queued": self.frontier.num_queued}
            print(json.dumps(line), flush=True)  # noqa: T201 - the parent reads it


def _group_by_host(urls: list[str]) -> list[list[str]]:
    by_host: dict[str, list[str]] = defaultdict(list)
    for url in urls:
        by_host[host(url)].append(url)
    return list(by_host.values())


def _content_type(headers: Headers) -> str | None:
    value = headers.get(b"Content-Type")
    return None if value is None else value.decode("latin-1")


def _decode_body(response: Response, max_bytes: int) -> tuple[bytes, str | None]:
    """A response's body, decoded as those of archives are, and whether it is truncated.

    Raises:
        BodyDecodeError: if it cannot be decoded.
    """
    encodings = response.headers.getlist(b"Content-Encoding")
    content_encoding = b",".join(encodings).decode("latin-1")
    try:
        return decode_body(bytes(response.body), None, content_encoding, max_bytes), None
    except BodyTruncatedError as error:
        return error.data, TRUNCATED


def _sorted_headers(headers: Headers) -> list[tuple[str, str]]:
    """Headers in a stable order: Scrapy groups them by name."""
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, values in sorted(headers.items())
        for value in values
    ]


def scrapy_settings(source: WebSource) -> dict[str, Any]:
    """Scrapy's settings for a crawl: features that the spider implements itself are off."""
    return {
        "USER_AGENT": source.user_agent,
        "DEFAULT_REQUEST_HEADERS": {
            "Accept": "text/html,application/xhtml+xml,text/plain;q=0.9,*/*;q=0.1",
            "Accept-Encoding": "gzip, deflate, br, zstd",
        },
        "COMPRESSION_ENABLED": False,  # it hides truncation
        "DOWNLOAD_TIMEOUT": source.timeout,
        "DOWNLOAD_MAXSIZE": source.max_page_bytes,
        "DOWNLOAD_WARNSIZE": 0,
        "DOWNLOAD_DELAY": 0,
        "CONCURRENT_REQUESTS": source.concurrency,
        "CONCURRENT_REQUESTS_PER_DOMAIN": source.concurrency,
        "DOWNLOAD_VERIFY_CERTIFICATES": True,
        "COOKIES_ENABLED": False,
        "REDIRECT_ENABLED": False,
        "METAREFRESH_ENABLED": False,
        "RETRY_ENABLED": False,
        "ROBOTSTXT_OBEY": False,
        "HTTPCACHE_ENABLED": False,
        "TELNETCONSOLE_ENABLED": False,
        "REFERER_ENABLED": False,
        "LOG_LEVEL": "WARNING",
    }


def main(config_path: Path) -> int:
    """Crawl to the end. Returns the exit status."""
    die_with_parent()
    options = json.loads(config_path.read_text(encoding="utf-8"))
    if os.getppid() != options["parent"]:
        return 1  # the parent died before it could be watched
    source = WebSource.model_validate(options["source"])
    spool = Spool(Path(options["spool"]))
    process = AsyncCrawlerProcess(scrapy_settings(source))
    crawler = process.create_crawler(BreadthFirstSpider)
    removals = [Removal(**item) for item in options["removals"]]
    process.crawl(crawler, source=source, spool=spool, removals=removals)
    process.start()
    spool.close()
    spider = crawler.spider
    error = spider.error if isinstance(spider, BreadthFirstSpider) else None
    complete = spool.read_verdicts() is not None
    return 0 if complete and error is None else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
