"""The frontier of a breadth-first crawl: which URLs are requested, level by level. No I/O.

A level is the sorted set of the URLs to which the level before it links and that were not discovered
earlier. It ends before the next begins, so neither concurrency nor the order in which responses
arrive changes what is collected.
"""

from collections.abc import Callable, Iterable, Sequence

from infra.dataset.ledger import Verdict, dropped
from tasks.acquire.web.scope import Scope


class Frontier:
    """The state of a breadth-first crawl.

    Args:
        start: canonical start URLs; in scope by definition.
        scope: the other URLs that are in scope.
        max_pages: number of URLs to request at most.
        max_depth: number of links from a start URL at most; ``None``: no limit. Redirects do not count.
    """

    def __init__(
        self, start: Sequence[str], scope: Scope, max_pages: int, max_depth: int | None = None
    ) -> None:
        # The verdict on every URL that was discovered, once its level is complete.
        self.verdicts: dict[str, Verdict] = {}
        self.num_requested = 0
        self._scope = scope
        self._max_pages = max_pages
        self._max_depth = max_depth
        self._discovered: set[str] = set(start)
        self._next_level: dict[str, int] = dict.fromkeys(start, 0)
        self._depths: dict[str, int] = {}

    @property
    def num_queued(self) -> int:
        """The number of URLs in the next level."""
        return len(self._next_level)

    @property
    def exhausted(self) -> bool:
        """Whether the page limit is reached."""
        return self.num_requested >= self._max_pages

    def candidates(self) -> list[str]:
        """The URLs of the next level, sorted, before robots.txt and the page limit are applied."""
        return sorted(self._next_level)

    def next_level(self, check_url: Callable[[str], Verdict | None]) -> list[str]:
        """Start the next level: the URLs to request now, sorted; empty when the crawl is complete.

        URLs that robots.txt forbids, and those beyond the page limit, get their verdict here.

        Args:
            check_url: the verdict on a URL that must not be fetched, else ``None``.
        """
        self._depths, self._next_level = self._next_level, {}
        self._discovered.update(self._depths)
        out: list[str] = []
        for url in sorted(self._depths):
            if self.exhausted:
                self.verdicts[url] = dropped("max_pages")
            elif (verdict := check_url(url)) is not None:
                self.verdicts[url] = verdict
            else:
                self.num_requested += 1
                out.append(url)
        return out

    def record(self, url: str, verdict: Verdict, links: Iterable[str] = ()) -> None:
        """Record the verdict on a URL of the current level, and the links of its page."""
        self.verdicts[url] = verdict
        depth = self._depths[url]
        if self._max_depth is None or depth < self._max_depth:
            for link in links:
                if link not in self._discovered and link in self._scope:
                    self._enqueue(link, depth + 1)

    def redirect(self, url: str, target: str | None) -> Verdict:
        """Record a redirect; return the verdict on the URL that redirects.

        Args:
            url: a URL of the current level.
            target: the canonical target; ``None`` if it is not a web URL.
        """
        if target is None or (target not in self._discovered and target not in self._scope):
            verdict = dropped("redirect_off_scope", target=target)
        else:
            verdict = dropped("redirect", target=target)
            if target not in self._discovered:
                self._enqueue(target, self._depths[url])
        self.verdicts[url] = verdict
        return verdict

    def _enqueue(self, url: str, depth: int) -> None:
        # Independent of arrival order: the shortest path to a URL is its depth.
        existing = self._next_level.get(url)
        self._next_level[url] = depth if existing is None else min(existing, depth)
