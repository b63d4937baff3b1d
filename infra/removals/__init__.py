"""Removals: which documents they match, and the log that records them."""
