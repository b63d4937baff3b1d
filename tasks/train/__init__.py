"""Training of decoder language models: the data order, the loop, checkpoints, and the launcher."""
