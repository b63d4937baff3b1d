"""Repeated content in kept documents: versions of one URL, repeated lines, repeated substrings."""
