"""Deduplication: exact duplicates by digest, near-duplicates by MinHash-LSH with every candidate pair verified."""
