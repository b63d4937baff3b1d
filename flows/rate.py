"""How fast a stage runs, how long it will take, and both in words."""

from collections import deque

from infra.compute.progress import Progress
from views.report.formatting import format_duration

WINDOW_S = 60.0  # the rate is that of the last minute


class RateMeter:
    """Measures units of work per second from cumulative counts."""

    def __init__(self) -> None:
        """Start without a measurement."""
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, now: float, completed: int) -> None:
        """Add a count, taken at a time in seconds of a monotonic clock."""
        samples = self._samples
        if samples and completed < samples[-1][1]:
            samples.clear()  # another phase, or a run that went back to an earlier step
        if len(samples) > 1 and samples[-2][1] == completed == samples[-1][1]:
            samples.pop()
        samples.append((now, completed))
        # Time before the first unit, such as that of starting processes, is no working time.
        while len(samples) > 2 and (
            samples[0][1] == samples[1][1] or now - samples[1][0] >= WINDOW_S
        ):
            samples.popleft()

    @property
    def per_second(self) -> float | None:
        """Units per second; ``None`` until one was finished."""
        if len(self._samples) < 2:
            return None
        (start, first), (end, last) = self._samples[0], self._samples[-1]
        return (last - first) / (end - start) if end > start and last > first else None


def format_rate(per_second: float) -> str:
    """Format a rate: ``52/s``, ``3.1/s``, ``6.5 s each``."""
    if per_second < 1:
        return f"{format_duration(1 / per_second)} each"
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.1f}/s"


def describe_progress(progress: Progress, units: str, per_second: float | None) -> str:
    """Say how far a stage is: ``3,120 of 8,000 steps, 52/s, 1 min 34 s left: loss 4.210``.

    Args:
        progress: of the stage.
        units: what it counts, if the progress does not say so.
        per_second: its rate, if it is known.
    """
    limit = "at most " if progress.total_is_limit else ""
    of = f" of {limit}{progress.total:,}" if progress.total else ""
    words = [f"{progress.completed:,}{of} {progress.units or units}"]
    if per_second:
        words.append(format_rate(per_second))
        if progress.total > progress.completed:
            left = format_duration((progress.total - progress.completed) / per_second)
            words.append(f"{limit}{left} left")
    phase = f"{progress.phase}: " if progress.phase else ""
    message = f": {progress.message}" if progress.message else ""
    return f"{phase}{', '.join(words)}{message}"
