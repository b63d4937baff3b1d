"""Where the Prefect UI says that a report is."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from flows.report_address import REPORTS_URL_ENV, describe_report, reports_url
from infra.errors import UserError
from infra.store.storage import Storage

PATH = "reports/small/run 1.html"


def test_the_address_of_a_local_report_opens_in_a_browser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = Storage("./a store")
    storage.write(PATH, b"page")
    text = describe_report(storage, PATH)
    (address,) = [line for line in text.splitlines() if line.startswith("file://")]
    assert Path(unquote(urlsplit(address).path)).read_bytes() == b"page"
    assert "](" not in text, "a browser follows no link from a web page to a file"


def test_the_address_of_a_remote_report_is_text() -> None:
    text = describe_report(Storage("memory://bucket/prefix"), PATH)
    assert f"\nmemory://bucket/prefix/{PATH}\n" in text
    assert "](" not in text


def test_reports_that_an_operator_serves_are_linked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REPORTS_URL_ENV, "https://reports.example.org/gristmill/")
    text = describe_report(Storage("memory://bucket/prefix"), PATH)
    assert "](https://reports.example.org/gristmill/small/run%201.html)" in text


@pytest.mark.parametrize(
    "url",
    ["reports.example.org", "file:///data", "https://me:secret@example.org/r", "http://a/?t=1"],
)
def test_an_address_that_cannot_be_shown_is_refused(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REPORTS_URL_ENV, url)
    with pytest.raises(UserError) as caught:
        reports_url()
    assert REPORTS_URL_ENV in str(caught.value)
    assert "secret" not in str(caught.value)


def test_without_an_address_nothing_is_linked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REPORTS_URL_ENV, " ")
    assert reports_url() is None
