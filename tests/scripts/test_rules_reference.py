"""The page of quality rules shows what is declared."""

from pathlib import Path

from scripts.rules_reference import render_reference


def test_the_page_of_rules_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs" / "quality-rules.md"
    assert page.read_text(encoding="utf-8") == render_reference(), "run: make docs"
