"""Checkpoints: saved in the background, complete only with their marker, and restored."""
