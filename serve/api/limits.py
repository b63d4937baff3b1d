"""Limits of requests."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of requests.

    Attributes:
        timeout_s: of a request, from the end of its head to its answer.
        max_body: bytes.
        max_tokens: new tokens of one output.
        slots: sequences that an engine generates at once.
        max_queue: requests that may wait.
        send_timeout_s: for which a client may leave unread what it is sent.
    """

    timeout_s: float = 600.0
    max_body: int = 1 << 20
    max_tokens: int = 4096
    slots: int = 16
    max_queue: int = 256
    send_timeout_s: float = 30.0
