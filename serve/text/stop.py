"""Find stop sequences in a text that grows, wherever its tokens end."""

from collections.abc import Sequence


class StopFinder:
    """Holds back the end of a text while it could become a stop sequence.

    Args:
        stops: none of them empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """Return the text that is certain, and whether a stop sequence ends it.

        The one that begins first counts; it is not part of the text.
        """
        if not self._stops:
            return text, False
        held = self._held + text
        starts = [start for stop in self._stops if (start := held.find(stop)) >= 0]
        # A longer stop that begins earlier may still be incomplete: it would win.
        size = self._possible_stop(held)
        if starts and min(starts) <= len(held) - size:
            self._held = ""
            return held[: min(starts)], True
        self._held = held[len(held) - size :]
        return held[: len(held) - size], False

    def finish(self) -> tuple[str, bool]:
        """Return what was held back, as nothing follows, and whether a stop sequence ends it."""
        held, self._held = self._held, ""
        starts = [start for stop in self._stops if (start := held.find(stop)) >= 0]
        return (held[: min(starts)], True) if starts else (held, False)

    def _possible_stop(self, text: str) -> int:
        """Return the size of the longest end of a text with which a stop sequence begins."""
        longest = max(len(stop) for stop in self._stops) - 1
        for size in range(min(longest, len(text)), 0, -1):
            end = text[len(text) - size :]
            if any(len(stop) > size and stop.startswith(end) for stop in self._stops):
                return size
        return 0
