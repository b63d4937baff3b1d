"""Suites: a released model on benchmark items, by log-likelihood and by what it generates."""
