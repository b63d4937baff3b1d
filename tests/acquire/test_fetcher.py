"""How long a crawl waits before it asks a server again."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from scrapy.http import Headers

from tasks.acquire.web.fetcher import MAX_RETRY_AFTER_S, MIN_BACKOFF_S, _retry_delay

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def delay(retry_after: str, date: datetime | None = NOW) -> float:
    headers = {"Retry-After": retry_after}
    if date is not None:
        headers["Date"] = format_datetime(date, usegmt=True)
    return _retry_delay(Headers(headers), 0)


def test_a_date_is_waited_for_by_the_clock_of_the_server() -> None:
    assert delay(format_datetime(NOW + timedelta(seconds=6), usegmt=True)) == 6
    assert delay("Thursday, 01-Jan-26 12:00:06 GMT") == 6  # RFC 850
    assert delay("Thu Jan  1 12:00:06 2026") == 6  # asctime


def test_a_date_without_the_time_of_the_server() -> None:
    ahead = datetime.now(UTC) + timedelta(seconds=30)
    assert 20 < delay(format_datetime(ahead, usegmt=True), None) <= 30


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("0", MIN_BACKOFF_S),
        ("100000", MAX_RETRY_AFTER_S),
        ("soon", MIN_BACKOFF_S),
        ("-5", MIN_BACKOFF_S),
        ("", MIN_BACKOFF_S),
        ("Thu, 01 Jan 2026 11:59:00 GMT", MIN_BACKOFF_S),
        ("Fri, 02 Jan 2026 12:00:00 GMT", MAX_RETRY_AFTER_S),
        ("Thu, 01 Foo 2026 11:59:00 GMT", MIN_BACKOFF_S),
    ],
)
def test_numbers_and_dates_within_limits(retry_after: str, seconds: float) -> None:
    assert delay(retry_after) == seconds
