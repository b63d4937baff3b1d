"""The recipe's `sources` section: one class per kind of source, distinguished by `kind`."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    field_validator,
    model_validator,
)

from infra.config import ConfigModel
from infra.store.environment import has_reference
from tasks.acquire.web.scope import canonicalize_url

RecrawlInterval = Literal["never", "hourly", "daily", "weekly", "monthly"]

# The default User-Agent header.
USER_AGENT = "gristmill/0.1"

_USER_AGENT_PATTERN = (
    r"^[A-Za-z0-9_-]+[/ ]?[\x20-\x7e]*$"  # a product token first (RFC 9110, 10.1.5)
)

# A source's name is part of folder names and of every document's id.
SourceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


# A label of the snapshot of the source.
Snapshot = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] | None


def _check_regex(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {pattern!r}: {error}") from None
    return pattern


Regex = Annotated[str, AfterValidator(_check_regex)]


class WebSource(ConfigModel):
    """Pages fetched over HTTP by the crawler."""

    name: SourceName = Field(description="name of the source; part of every document's id")
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
    user_agent: str = Field(
        default=USER_AGENT,
        pattern=_USER_AGENT_PATTERN,
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
            "month becomes the snapshot's label. never: one crawl serves every run"
        ),
    )
    snapshot: Snapshot = Field(
        default=None,
        description="a label to use in place of the one that `recrawl` gives",
    )
    license: str | None = Field(default=None, description="license of pages that do not state one")

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
        how = {"delay", "concurrency", "timeout", "retries", "license", "recrawl", "snapshot"}
        chosen = {key: value for key, value in self.to_json().items() if key not in how}
        return {**chosen, "snapshot": self.snapshot_label(now)}

    def snapshot_label(self, now: datetime) -> str:
        """The label of the snapshot that a run at `now` uses.

        Two runs with equal labels use one crawl. The label is part of the acquire fingerprint.

        Args:
            now: the run's time; give UTC, so that hosts agree.
        """
        if self.snapshot is not None:
            return self.snapshot
        match self.recrawl:
            case "never":
                return "once"
            case "hourly":
                return f"{now:%Y-%m-%dT%H}"
            case "daily":
                return f"{now:%Y-%m-%d}"
            case "weekly":
                return f"{now:%G-W%V}"
            case "monthly":
                return f"{now:%Y-%m}"


class WarcSource(ConfigModel):
    """Pages from WARC files that exist already, for example a slice of Common Crawl."""

    name: SourceName = Field(description="name of the source; part of every document's id")
    kind: Literal["warc"]
    paths: tuple[str, ...] = Field(
        min_length=1, description="paths, globs or URLs of .warc or .warc.gz files"
    )
    snapshot: Snapshot = Field(
        default=None,
        description=(
            "a label; when it changes, the files are read again, whatever was read before"
        ),
    )
    license: str | None = Field(default=None, description="license of pages that do not state one")
    max_page_bytes: int = Field(
        default=10_000_000, ge=1, description="a longer payload fails as too_large"
    )
    user_agent: str = Field(
        default=USER_AGENT,
        pattern=_USER_AGENT_PATTERN,
        description="user agent whose product token is matched with the robots meta tags of pages",
    )


class BooksSource(ConfigModel):
    """EPUB and plain-text books: one document per book, with its chapters."""

    name: SourceName = Field(description="name of the source; part of every document's id")
    kind: Literal["books"]
    paths: tuple[str, ...] = Field(
        min_length=1, description="paths, globs or URLs of .epub and .txt files"
    )
    snapshot: Snapshot = Field(
        default=None,
        description=(
            "a label; when it changes, the files are read again, whatever was read before"
        ),
    )
    license: str | None = Field(
        default=None, description="license of the books; null: the rights that a book states"
    )
    unwrap_lines: bool = Field(
        default=True,
        description=(
            "join the hard-wrapped lines of plain-text prose, so that a paragraph is one line; "
            "verse, tables and indented blocks keep theirs"
        ),
    )
    max_book_bytes: int = Field(
        default=64 << 20,
        ge=1,
        description="a longer text file, or an EPUB that unpacks to more, fails as too_large",
    )


class DocumentsSource(ConfigModel):
    """Rows of JSONL (plain, .gz, .zst) or Parquet files: one document per row."""

    name: SourceName = Field(description="name of the source; part of every document's id")
    kind: Literal["documents"]
    paths: tuple[str, ...] = Field(
        min_length=1, description="paths, globs or URLs of .jsonl[.gz|.zst] and .parquet files"
    )
    text_column: str = Field(default="text", description="column of the text")
    url_column: str | None = Field(default=None, description="column of the URL")
    title_column: str | None = Field(default=None, description="column of the title")
    date_column: str | None = Field(
        default=None, description="column of the document's own date (ISO 8601)"
    )
    license_column: str | None = Field(
        default=None, description="column of the license; `license` where it is null"
    )
    language_column: str | None = Field(
        default=None, description="column of a language tag, kept as language_hint"
    )
    snapshot: Snapshot = Field(
        default=None,
        description=(
            "a label; when it changes, the files are read again, whatever was read before"
        ),
    )
    license: str | None = Field(default=None, description="license of rows without one")
    max_row_bytes: int = Field(
        default=64 << 20,
        ge=1,
        description="a longer line (or Parquet text) fails as too_large, unread",
    )

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        if self.text_column == self.url_column:
            raise ValueError("text_column and url_column are the same column")
        return self


FileSource = WarcSource | BooksSource | DocumentsSource
# One entry of the recipe's `sources`.
Source = Annotated[WebSource | FileSource, Field(discriminator="kind")]
