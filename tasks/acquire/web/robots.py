"""What a site's robots.txt allows, as RFC 9309 defines it."""

import math
import re
from dataclasses import dataclass, field
from typing import Any

# Bytes of a robots.txt that are parsed; RFC 9309, 2.5 requires at least 500 KiB.
MAX_ROBOTS_BYTES = 500 * 1024

# Redirects followed from /robots.txt: RFC 9309, 2.3.1.2.
MAX_REDIRECTS = 5

# What follows a product token in a User-agent line: "gristmill/0.1", as access logs show it. Google's
# parser reads up to there, too.
_AGENT_VERSION = re.compile(
    r"^([ \t]*user-?agent[ \t]*:[ \t]*[\w-]+)[^\w\r\n#-][^\r\n#]*", re.I | re.M
)


@dataclass(frozen=True)
class RobotsRules:
    """The decision about one origin.

    Attributes:
        allow_all: everything may be fetched (robots.txt does not exist: HTTP 4xx).
        deny_all: nothing may be fetched (robots.txt is unreachable: HTTP 5xx, no response).
        parser: the parsed rules, if any.
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
        """Seconds between two requests that the site demands; 0 if it demands none."""
        value = self.parser.crawl_delay(self.product_token) if self.parser is not None else None
        if value is None or not math.isfinite(value):
            return 0.0
        return max(0.0, float(value))


def product_token(user_agent: str) -> str:
    """The product token of a User-Agent header, by which robots.txt names crawlers."""
    return user_agent.partition("/")[0].split()[0].lower()


def parse_rules(status: int | None, body: bytes, user_agent: str) -> RobotsRules:
    """The rules of a response to /robots.txt.

    Args:
        status: HTTP status after at most `MAX_REDIRECTS` redirects; ``None`` if there was no
            response (RFC 9309, 2.3.1.4: unreachable, as 5xx). A redirect without a target counts
            as 404 (2.3.1.2).
        body: the response; only the first `MAX_ROBOTS_BYTES` count, invalid UTF-8 is replaced.
        user_agent: the crawler's User-Agent header.
    """
    name = product_token(user_agent)
    if status is None or status >= 500:
        return RobotsRules(name, deny_all=True)
    if not 200 <= status < 300:
        return RobotsRules(name, allow_all=True)
    from protego import Protego

    text = body[:MAX_ROBOTS_BYTES].decode("utf-8", "replace").lstrip("\ufeff")
    return RobotsRules(name, parser=Protego.parse(_AGENT_VERSION.sub(r"\1", text)))
