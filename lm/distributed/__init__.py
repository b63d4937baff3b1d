"""Several processes: data parallelism and random states."""
