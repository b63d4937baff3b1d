"""Requests to hosts: one at a time within a host's delay, retried where that may help."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from scrapy.exceptions import (
    CannotResolveHostError,
    DownloadCancelledError,
    DownloadConnectionRefusedError,
    DownloadFailedError,
    DownloadTimeoutError,
    IgnoreRequest,
    ResponseDataLossError,
)
from scrapy.http import Headers, Request, Response

from infra.dataset.ledger import Verdict, failed
from tasks.acquire.web.config import WebSource
from tasks.acquire.web.scope import host

log = logging.getLogger(__name__)

# Statuses that a further try may change: Scrapy's RETRY_HTTP_CODES.
RETRY_STATUSES = frozenset({408, 429, 500, 502, 503, 504, 522, 524})

# Seconds before the first further try; doubled for each one after.
MIN_BACKOFF_S = 0.5

# Seconds: of a Retry-After header, no more than this is waited.
MAX_RETRY_AFTER_S = 60.0

_CONNECTION_ERRORS = (CannotResolveHostError, DownloadConnectionRefusedError, DownloadFailedError)


@dataclass
class HostThrottle:
    """The throttle of one host: requests to it start at least `delay` seconds apart."""

    delay: float
    next_start: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Fetcher:
    """Request URLs for a source, within its delay, concurrency and number of retries.

    Args:
        source: the source's section of the recipe.
        download: downloads one request, or raises one of Scrapy's exceptions.
    """

    def __init__(
        self, source: WebSource, download: Callable[[Request], Awaitable[Response]]
    ) -> None:
        self._source = source
        self._download = download
        self._throttles: dict[str, HostThrottle] = {}
        self._slots = asyncio.Semaphore(source.concurrency)

    def require_delay(self, host_name: str, seconds: float) -> None:
        """Start requests to a host at least this many seconds apart."""
        throttle = self._throttle_for(host_name)
        throttle.delay = max(throttle.delay, seconds)

    def _throttle_for(self, host_name: str) -> HostThrottle:
        return self._throttles.setdefault(host_name, HostThrottle(self._source.delay))

    async def request(self, url: str, *, robots_file: bool = False) -> Response | Verdict:
        """Request a URL, retrying transient errors; return the response or the failure."""
        for attempt in range(self._source.retries + 1):
            request = Request(url, meta=_request_meta(robots_file=robots_file), dont_filter=True)
            response = await self._request_once(request)
            last = attempt == self._source.retries
            if isinstance(response, Response):
                if last or response.status not in RETRY_STATUSES:
                    return response
                await asyncio.sleep(_retry_delay(response.headers, attempt))
            elif last or response.reason not in ("connection", "timeout"):
                return response
            else:
                await asyncio.sleep(MIN_BACKOFF_S * 2**attempt)
        raise AssertionError("the last attempt returns")

    async def _request_once(self, request: Request) -> Response | Verdict:
        throttle = self._throttle_for(host(request.url))
        async with throttle.lock:
            await asyncio.sleep(max(0.0, throttle.next_start - time.monotonic()))
            await self._slots.acquire()
            throttle.next_start = time.monotonic() + throttle.delay
        try:
            return await self._download(request)
        except DownloadTimeoutError:
            return failed("timeout", seconds=self._source.timeout)
        except ResponseDataLossError:
            return failed("connection", error="the answer was cut short")
        except _CONNECTION_ERRORS as error:
            return failed("connection", error=type(error).__name__)
        except (DownloadCancelledError, IgnoreRequest):
            return failed("too_large", limit=self._source.max_page_bytes)
        except Exception as error:
            # A server can send anything; an unexpected error fails this page alone.
            log.exception("fetching %s", request.url)
            return failed("fetch_error", error=type(error).__name__)
        finally:
            self._slots.release()


def _request_meta(*, robots_file: bool) -> dict[str, Any]:
    meta: dict[str, Any] = {"robots_file": robots_file}
    if robots_file:  # the limit of pages is not for it; the crawler stops reading it earlier
        meta["download_maxsize"] = 0
    return meta


def _retry_delay(headers: Headers, attempt: int) -> float:
    """Seconds before the next attempt: what the server's Retry-After asks for, within limits."""
    backoff = MIN_BACKOFF_S * 2.0**attempt
    return min(MAX_RETRY_AFTER_S, max(backoff, _retry_after(headers)))


def _retry_after(headers: Headers) -> float:
    """Seconds of a Retry-After header: a number, or a date (RFC 9110, 10.2.3); 0 without one."""
    text = (headers.get(b"Retry-After") or b"").decode("latin-1").strip()
    if text.isdecimal():
        return float(text)
    date = _parse_date(text)
    if date is None:
        return 0.0
    # By the server's own clock where it states the time.
    now = _parse_date((headers.get(b"Date") or b"").decode("latin-1")) or datetime.now(UTC)
    return (date - now).total_seconds()


def _parse_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
