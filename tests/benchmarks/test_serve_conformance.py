"""What the comparison of servers says of their answers."""

import pytest

from benchmarks.serve_conformance import HONORED, IGNORED, judge_events

TEXT = 'data: {"choices": [{"text": "x"}], "usage": null}\n\n'
USAGE = 'data: {"choices": [], "usage": {"completion_tokens": 1}}\n\n'
DONE = "data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (TEXT + USAGE + DONE, HONORED),
        (TEXT + USAGE, "usage, but no `[DONE]`"),
        (TEXT + DONE, "`[DONE]`, but no usage"),
        (TEXT, IGNORED),
        ("", IGNORED),
    ],
)
def test_the_end_of_a_stream_is_described(events: str, expected: str) -> None:
    assert judge_events(events) == expected
