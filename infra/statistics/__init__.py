"""Intervals of measured values, and tests of their differences."""
