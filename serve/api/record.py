"""What is known of a request while it runs, for its log line, its metrics and its deadline."""

import time
from dataclasses import dataclass, field

RECORD = "gristmill.record"  # the key of a request's record in its scope
CLIENT_GONE = 499


class StalledClientError(Exception):
    """The client does not read what is sent."""


@dataclass
class RequestRecord:
    """What the log line of a request says beside its route.

    Attributes:
        start: when the head of the request was complete, by the monotonic clock.
        status: ``None`` until a response begins.
        error: the cause of an error: its code and field, never a text of the request.
    """

    id: str
    start: float = field(default_factory=time.monotonic)
    status: int | None = None
    model: str | None = None
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    first_token_s: float | None = None
    error: str | None = None

    def remaining_s(self, limit_s: float) -> float:
        """Return how many seconds are left of a limit that counts from the start, at least 0."""
        return max(0.0, self.start + limit_s - time.monotonic())
