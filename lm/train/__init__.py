"""The training loop, its worker process, its state and its validation."""
