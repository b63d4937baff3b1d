"""Metrics of predictions with bootstrap intervals, and paired tests."""
