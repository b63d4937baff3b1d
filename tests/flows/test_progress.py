"""What the Prefect UI shows of a run."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from flows.progress import PrefectReporter
from infra.store.storage import Storage


def publish(monkeypatch: pytest.MonkeyPatch, storage: Storage) -> str:
    published: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "flows.progress.create_markdown_artifact", lambda **artifact: published.append(artifact)
    )
    reporter = PrefectReporter()
    reporter.publish_report(storage, "reports/small/run.html")
    reporter.close()
    (artifact,) = published
    assert artifact["key"] == "report"
    return str(artifact["markdown"])


def test_the_address_of_a_report_opens_in_a_browser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = Storage("./a store")
    storage.write("reports/small/run.html", b"page")
    text = publish(monkeypatch, storage)
    (address,) = [line for line in text.splitlines() if line.startswith("file://")]
    assert Path(unquote(urlsplit(address).path)).read_bytes() == b"page"
    assert "](" not in text, "a browser follows no link from a web page to a file"


def test_the_address_of_a_remote_report_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    text = publish(monkeypatch, Storage("memory://bucket/prefix"))
    assert "\nmemory://bucket/prefix/reports/small/run.html\n" in text
    assert "](" not in text
