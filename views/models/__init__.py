"""The models of a recipe, beside those before them, and gates on their metrics."""
