"""Removals on request: their impact, the models trained on removed documents, remaining data."""
