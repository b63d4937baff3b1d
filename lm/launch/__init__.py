"""Start training processes with torchrun on one or several nodes, and roll back after a loss spike."""
