"""Candidate duplicates: exact groups, LSH buckets, connected components."""
