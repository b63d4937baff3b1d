"""Where people find the report of a run: a link if the operator serves reports, a path if not."""

import os
from urllib.parse import quote, urlsplit

from infra.errors import UserError
from infra.runs.run_records import REPORTS
from infra.store.environment import mask
from infra.store.storage import Storage

REPORTS_URL_ENV = "GRISTMILL_REPORTS_URL"


def reports_url() -> str | None:
    """Return the address under which the operator serves the store's folder ``reports``.

    Raises:
        UserError: if the variable is not an address that a page can link to.
    """
    url = os.environ.get(REPORTS_URL_ENV, "").strip()
    if not url:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(
            f"{REPORTS_URL_ENV}: {url!r} is not an address such as https://reports.example.org/gristmill"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UserError(
            f"{REPORTS_URL_ENV}: no user, password, query or fragment may be in the address, since "
            "everyone who sees the run sees it"
        )
    return url.rstrip("/")


def describe_report(storage: Storage, path: str) -> str:
    """Return Markdown that leads to a report.

    Without an address of the operator it is a path to be copied: browsers follow no link from a web
    page to a file, and know no ``s3:``.
    """
    if url := reports_url():
        address = f"{url}/{quote(path.removeprefix(f'{REPORTS}/'))}"
        return f"[Open the report]({address})"
    local = storage.local_path(path)
    address = local.as_uri() if local else f"{storage.url.rstrip('/')}/{path}"
    how = "open in a browser" if local else "download"
    return f"The report, to {how} on a machine with access:\n\n```\n{mask(address)}\n```"
