"""A real browser for tests: headless Chromium that requests nothing of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.limits import WAIT_TIMEOUT_S
from tests.servers import chromium

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = {"width": 1280, "height": 900}


@contextmanager
def open_browser() -> Iterator[Any]:
    """Start the browser (a ``playwright`` browser), and stop it at the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), headless=True, args=FLAGS, timeout=WAIT_TIMEOUT_S * 1000
        )
        yield browser
        browser.close()


def open_page(browser: Any) -> Any:
    """Open an empty page with timeouts for a busy machine."""
    context = browser.new_context(viewport=DESKTOP)
    context.set_default_timeout(WAIT_TIMEOUT_S * 1000)
    return context.new_page()
