"""Duplicate clusters: their members, and how their texts differ."""
