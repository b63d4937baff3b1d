"""Columns beside the documents: language, quality signals and spans of personal data."""
