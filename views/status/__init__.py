"""Runs, data sets and disk use of a store, on one screen."""
