"""Deduplication: exact copies by digest, near copies by MinHash-LSH with every candidate verified."""
