"""Examples from files: formats, tasks, splits, near-duplicates."""
