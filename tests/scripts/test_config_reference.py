"""The page of settings matches the recipe's model."""

from pathlib import Path

from scripts.config_reference import render_reference


def test_the_page_of_settings_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs" / "recipe.md"
    assert page.read_text() == render_reference(), "run: make docs"
