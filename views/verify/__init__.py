"""Re-count and re-hash the committed data sets of a run."""
