"""Which URLs a crawl asks for, in which wave. Pure: it knows nothing of the network.

A wave is the sorted set of the addresses that the wave before it led to and that were not seen
earlier. It ends before the next begins, so neither concurrency nor the order in which answers
arrive has a say in what is collected.
"""

from collections.abc import Callable, Iterable, Sequence

from tasks.acquire.http_verdict import FetchVerdict, dropped_verdict
from tasks.acquire.web.scope import Scope


class Frontier:
    """The state of a breadth-first crawl.

    Args:
        start: canonical start URLs; in scope by definition.
        scope: which other URLs are.
        max_pages: most URLs to ask for.
        max_depth: most links from a start URL; ``None``: no limit. Redirects do not count.
    """

    def __init__(
        self, start: Sequence[str], scope: Scope, max_pages: int, max_depth: int | None = None
    ) -> None:
        # The verdict on every address that was discovered, once its wave is over.
        self.verdicts: dict[str, FetchVerdict] = {}
        self.num_requested = 0
        self._scope = scope
        self._max_pages = max_pages
        self._max_depth = max_depth
        self._seen: set[str] = set(start)
        self._next_level: dict[str, int] = dict.fromkeys(start, 0)
        self._depths: dict[str, int] = {}

    @property
    def num_queued(self) -> int:
        """Addresses that wait for the next wave."""
        return len(self._next_level)

    @property
    def exhausted(self) -> bool:
        """Whether no further address may be asked for."""
        return self.num_requested >= self._max_pages

    def candidates(self) -> list[str]:
        """The addresses of the next wave before robots.txt and the page limit, sorted."""
        return sorted(self._next_level)

    def next_level(self, check_url: Callable[[str], FetchVerdict | None]) -> list[str]:
        """Begin the next wave: the addresses to ask for now, sorted; empty when all is done.

        Those that robots.txt forbids, and those beyond the page limit, get their verdict here.

        Args:
            check_url: the verdict on an address that robots.txt does not let be fetched.
        """
        self._depths, self._next_level = self._next_level, {}
        self._seen.update(self._depths)
        out: list[str] = []
        for url in sorted(self._depths):
            if self.exhausted:
                self.verdicts[url] = dropped_verdict("max_pages")
            elif (fate := check_url(url)) is not None:
                self.verdicts[url] = fate
            else:
                self.num_requested += 1
                out.append(url)
        return out

    def record(self, url: str, verdict: FetchVerdict, links: Iterable[str] = ()) -> None:
        """Record what became of an address of the current wave, and where its page leads."""
        self.verdicts[url] = verdict
        depth = self._depths[url]
        if self._max_depth is None or depth < self._max_depth:
            for link in links:
                if link not in self._seen and link in self._scope:
                    self._enqueue(link, depth + 1)

    def redirect(self, url: str, target: str | None) -> FetchVerdict:
        """Record that an address leads to another one; gives the verdict that means.

        Args:
            url: an address of the current wave.
            target: where it leads, canonical; ``None`` if that is no web address.
        """
        if target is None or (target not in self._seen and target not in self._scope):
            fate = dropped_verdict("redirect_off_scope", target=target)
        else:
            fate = dropped_verdict("redirect", target=target)
            if target not in self._seen:
                self._enqueue(target, self._depths[url])
        self.verdicts[url] = fate
        return fate

    def _enqueue(self, url: str, depth: int) -> None:
        # Arrival order must not show: of two ways to an address the shorter one counts.
        known = self._next_level.get(url)
        self._next_level[url] = depth if known is None else min(known, depth)
