"""Prefect flows and the command line: what runs after what."""
