"""What a user does on the page of the endpoint."""

from typing import Any

FINISHED = "#halt:disabled"


def ask(page: Any, text: str, button: str = "Generate") -> None:
    """Send a text and wait for the end of the answer."""
    page.locator("#input").fill(text)
    page.get_by_role("button", name=button, exact=True).click()
    page.wait_for_selector(FINISHED)


def choose(page: Any, model: str, tokens: int = 100) -> None:
    page.get_by_label("Model", exact=True).select_option(model)
    if page.get_by_label("Max tokens").is_visible():
        page.get_by_label("Max tokens").fill(str(tokens))
