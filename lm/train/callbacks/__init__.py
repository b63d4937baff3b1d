"""Callbacks of the training loop, one idea each."""
