"""The recipe's section of a source that is crawled."""

from datetime import datetime
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, field_validator, model_validator

from infra.store.environment import has_reference
from tasks.acquire.source import USER_AGENT, Regex, Source, UserAgent
from tasks.acquire.web.scope import canonicalize_url

RecrawlInterval = Literal["never", "hourly", "daily", "weekly", "monthly"]
_SNAPSHOT_FORMATS: dict[RecrawlInterval, str] = {
    "never": "once", "hourly": "%Y-%m-%dT%H", "daily": "%Y-%m-%d", "weekly": "%G-W%V",
    "monthly": "%Y-%m",
}  # fmt: skip


class WebSource(Source):
    """Pages fetched over HTTP by the crawler."""

    kind: Literal["web"]
    start_urls: tuple[str, ...] = Field(
        min_length=1, description="URLs (http or https) at which the crawl starts, depth 0"
    )
    allow: tuple[Regex, ...] = Field(
        default=(),
        description=(
            "regular expressions searched in a canonical URL; a URL that none of them matches is "
            "out of scope. Empty: every URL on the hosts (and ports) of the start URLs"
        ),
    )
    deny: tuple[Regex, ...] = Field(
        default=(), description="regular expressions; a URL that one matches is out of scope"
    )
    max_pages: int = Field(
        default=1000,
        ge=1,
        description="number of URLs to request at most; the rest are dropped with the reason max_pages",
    )
    max_depth: int | None = Field(
        default=None, ge=0, description="number of links from a start URL at most; null: no limit"
    )
    delay: float = Field(
        default=1.0,
        ge=0,
        description=(
            "seconds between two requests to one host. A longer Crawl-delay in robots.txt wins. "
            "Scrapy's project template has 1 s"
        ),
    )
    max_crawl_delay: float = Field(
        default=60.0,
        ge=0,
        description="a site that demands a longer delay, in seconds, is not crawled (crawl_delay)",
    )
    concurrency: int = Field(
        default=8, ge=1, le=256, description="requests in flight at once, over all hosts"
    )
    user_agent: UserAgent = Field(
        default=USER_AGENT,
        description=(
            "sent with every request; its first word before '/' is the product token that "
            "robots.txt groups and robots meta tags are matched with"
        ),
    )
    timeout: float = Field(
        default=30.0, gt=0, description="seconds for one request, from connection to last byte"
    )
    retries: int = Field(
        default=2,
        ge=0,
        description="further attempts after a connection error, a timeout, or HTTP 408/429/5xx",
    )
    max_page_bytes: int = Field(
        default=10_000_000, ge=1, description="a longer page (decompressed) fails as too_large"
    )
    recrawl: RecrawlInterval = Field(
        default="never",
        description=(
            "how often a later run fetches the site again: the current hour, day, ISO week or "
            "month becomes the snapshot's label, unless `snapshot` gives one. never: one crawl "
            "serves every run"
        ),
    )

    needs_extraction: ClassVar[bool] = True

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_secret_queries(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        urls = value.get("start_urls", ()) if isinstance(value, dict) else ()
        for url in urls if isinstance(urls, list | tuple) else ():
            if isinstance(url, str) and has_reference(url.partition("?")[2]):
                raise ValueError(
                    f"start_urls: {url!r}: a page's URL is stored with its documents, so its query "
                    "cannot come from the environment"
                )
        return handler(value)

    @field_validator("start_urls")
    @classmethod
    def _check_start_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if canonicalize_url(url) is None:
                raise ValueError(f"not an http or https URL without credentials: {url!r}")
        return urls

    def crawl_key(self, now: datetime) -> dict[str, object]:
        """What decides which pages a crawl brings in, as JSON values: its part of the fingerprint.

        The request rate, timeouts, retries and the assumed license are left out: changing them does
        not fetch a site again.
        """
        others = {"delay", "concurrency", "timeout", "retries", "license", "recrawl", "snapshot"}
        chosen = {key: value for key, value in self.to_json().items() if key not in others}
        return {**chosen, "snapshot": self.snapshot_label(now)}

    def snapshot_label(self, now: datetime) -> str:
        """The label of the snapshot that a run at `now` (UTC) uses; equal labels use one crawl."""
        return self.snapshot or f"{now:{_SNAPSHOT_FORMATS[self.recrawl]}}"
