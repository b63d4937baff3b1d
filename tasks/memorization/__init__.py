"""Memorization: how much of the training text a released model repeats, beside held-out text."""
