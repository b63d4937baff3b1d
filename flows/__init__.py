"""Prefect flows: what runs after what."""
