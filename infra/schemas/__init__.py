"""Contracts between stages: signals, quality rules, languages, tables of pairs."""
