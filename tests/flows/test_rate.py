"""Rates and time left of a running stage."""

import pytest

from flows.rate import RateMeter, describe_progress, format_rate
from infra.compute.progress import Progress


def measure(*samples: tuple[float, int]) -> float | None:
    meter = RateMeter()
    for now, completed in samples:
        meter.add(now, completed)
    return meter.per_second


def test_the_rate_is_that_of_the_last_minute() -> None:
    slow_then_fast = [(float(s), s) for s in range(100)]
    slow_then_fast += [(100.0 + s, 100 + 10 * s) for s in range(100)]
    assert measure(*slow_then_fast) == pytest.approx(10, rel=0.01)


def test_time_before_the_first_unit_does_not_count() -> None:
    assert measure((0.0, 0), (10.0, 0), (20.0, 0), (22.0, 8)) == 4


def test_units_of_an_earlier_run_do_not_count() -> None:
    assert measure((0.0, 500), (10.0, 510)) == 1


def test_a_run_that_goes_back_to_an_earlier_step_starts_to_measure_again() -> None:
    assert measure((0.0, 0), (10.0, 100), (12.0, 50), (14.0, 60)) == 5


@pytest.mark.parametrize("samples", [[], [(0.0, 3)], [(0.0, 3), (5.0, 3)], [(1.0, 3), (1.0, 4)]])
def test_without_a_finished_unit_there_is_no_rate(samples: list[tuple[float, int]]) -> None:
    assert measure(*samples) is None


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(1234.0, "1,234/s"), (9.5, "9.5/s"), (1.0, "1.0/s"), (0.5, "2.0 s each")],
)
def test_a_rate_has_a_readable_unit(per_second: float, text: str) -> None:
    assert format_rate(per_second) == text


def test_progress_says_how_much_is_left() -> None:
    steps = Progress("train", "tiny", 300, 1200, "loss 4.2")
    assert (
        describe_progress(steps, "steps", 10.0)
        == "300 of 1,200 steps, 10/s, 1 min 30 s left: loss 4.2"
    )
    assert describe_progress(steps, "steps", None) == "300 of 1,200 steps: loss 4.2"


def test_a_crawl_may_end_before_its_limit() -> None:
    pages = Progress("acquire", "site", 50, 100, units="pages", total_is_limit=True)
    assert (
        describe_progress(pages, "parts", 2.0)
        == "50 of at most 100 pages, 2.0/s, at most 25.0 s left"
    )


def test_a_phase_is_named() -> None:
    phase = Progress("dedup", None, 3, 3, units="tasks", phase="pairs")
    assert describe_progress(phase, "parts", 2.0) == "pairs: 3 of 3 tasks, 2.0/s"
