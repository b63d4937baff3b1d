"""A wall clock that is set back while work is waited for."""

import time

import pytest

from infra.compute.clock import ClockSetBackError, ClockWatch


def test_a_clock_that_is_set_back_is_an_error_only_if_nothing_is_finished_while_it_is_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wall, steady = 50_000.0, 0.0
    monkeypatch.setattr(time, "time", lambda: wall)
    monkeypatch.setattr(time, "monotonic", lambda: steady)
    watch = ClockWatch()

    def check_for(seconds: int) -> None:
        nonlocal wall, steady
        for _ in range(seconds):
            wall, steady = wall + 1, steady + 1
            watch.check()

    check_for(900)
    wall -= 12  # a step of twelve seconds is over after twelve
    check_for(900)
    wall -= 3600
    for _ in range(3):
        check_for(200)
        watch.progressed()
    with pytest.raises(ClockSetBackError, match=r"by 2,[67]\d\d s"):
        check_for(302)
    wall += 3600  # it is set right
    check_for(900)
    wall += 3600  # it is wrong, ahead, and then set right
    check_for(10)
    wall -= 3600
    with pytest.raises(ClockSetBackError):
        check_for(302)
