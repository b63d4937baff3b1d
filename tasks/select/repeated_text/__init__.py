"""Repeated content in kept documents: lines and substrings."""
