"""Suites of benchmark items in the cache: `python -m examples.suites` makes them."""
