"""Download pinned packages and the language identification model."""
