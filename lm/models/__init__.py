"""Model architectures: one folder per family, and what families share."""
