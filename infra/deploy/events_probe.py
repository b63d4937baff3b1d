"""Whether Prefect's background services work: an event has to pass through them.

Usage, as a health check of a container: ``python -m infra.deploy.events_probe``, with ``PREFECT_API_URL``
and ``PREFECT_API_AUTH_STRING`` in the environment.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

TIMEOUT_S = 15.0
POLL_INTERVAL_S = 0.2


def events_pass(api_url: str, auth_string: str, wait_s: float = TIMEOUT_S) -> bool:
    """Whether an event passes from the API through the broker to the services and into the database.

    Args:
        api_url: the address of Prefect's API.
        auth_string: user and password, with a colon between them.
        wait_s: how long the event may take. Services that are starting may miss one, so that whoever
            waits for them should not wait long for the same one.
    """
    event = str(uuid.uuid4())
    body = {
        "id": event,
        "occurred": datetime.now(UTC).isoformat(),
        "event": "gristmill.probe",
        "resource": {"prefect.resource.id": "gristmill.probe"},
        "payload": {},
    }
    headers = {"Authorization": f"Basic {b64encode(auth_string.encode()).decode()}"}
    if get_json(f"{api_url}/events", [body], headers) is None:
        return False
    wanted = {"filter": {"id": {"id": [event]}}}
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        page = get_json(f"{api_url}/events/filter", wanted, headers)
        if page and page["events"]:
            return True
        time.sleep(POLL_INTERVAL_S)
    return False


def get_json(url: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
    """Send a request; return the answer's JSON, ``True`` for an empty one, ``None`` for a failure."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310 - an address that the operator sets
        url, data, {"Content-Type": "application/json", **(headers or {})}
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            return json.loads(answer.read() or b"true")
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    passed = events_pass(os.environ["PREFECT_API_URL"], os.environ["PREFECT_API_AUTH_STRING"])
    sys.exit(0 if passed else "an event did not reach the database")
