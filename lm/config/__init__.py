"""The training section of a recipe."""
