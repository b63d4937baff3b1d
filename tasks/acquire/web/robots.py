"""What a site's robots.txt allows, by RFC 9309."""

import math
from dataclasses import dataclass, field
from typing import Any

# Of a robots.txt that are read: RFC 9309, 2.5 asks for 500 KiB at least.
MAX_ROBOTS_BYTES = 500 * 1024

# Redirects followed from /robots.txt: RFC 9309, 2.3.1.2.
MAX_REDIRECTS = 5


@dataclass(frozen=True)
class RobotsRules:
    """The decision about one origin.

    Attributes:
        allow_all: everything may be fetched (robots.txt is not there: HTTP 4xx).
        deny_all: nothing may be fetched (robots.txt cannot be reached: HTTP 5xx, no answer).
        parser: the parsed rules where there are some.
        product_token: the crawler's product token.
    """

    product_token: str
    allow_all: bool = False
    deny_all: bool = False
    parser: Any = field(default=None, compare=False)

    def can_fetch(self, url: str) -> bool:
        """Whether a canonical URL may be fetched."""
        if self.allow_all or self.deny_all:
            return self.allow_all
        return bool(self.parser.can_fetch(url, self.product_token))

    @property
    def crawl_delay(self) -> float:
        """Seconds the site asks for between two requests; 0 if it does not ask."""
        value = self.parser.crawl_delay(self.product_token) if self.parser is not None else None
        if value is None or not math.isfinite(value):
            return 0.0
        return max(0.0, float(value))


def product_token(user_agent: str) -> str:
    """The product token of a User-Agent header: what robots.txt groups name."""
    return user_agent.partition("/")[0].split()[0].lower()


def parse_rules(status: int | None, body: bytes, user_agent: str) -> RobotsRules:
    """The rules that an answer to /robots.txt means.

    Args:
        status: HTTP status after at most `MAX_REDIRECTS` redirects; ``None`` if there was no
            answer (RFC 9309, 2.3.1.4: unreachable, as 5xx). A redirect that leads nowhere counts
            as "not there" (2.3.1.2).
        body: the answer; only the first `MAX_ROBOTS_BYTES` count, invalid UTF-8 is replaced.
        user_agent: the crawler's User-Agent header.
    """
    name = product_token(user_agent)
    if status is None or status >= 500:
        return RobotsRules(name, deny_all=True)
    if not 200 <= status < 300:
        return RobotsRules(name, allow_all=True)
    from protego import Protego

    text = body[:MAX_ROBOTS_BYTES].decode("utf-8", "replace").lstrip("\ufeff")
    return RobotsRules(name, parser=Protego.parse(text))
