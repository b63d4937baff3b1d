"""Verify candidate pairs by their exact Jaccard similarity."""
