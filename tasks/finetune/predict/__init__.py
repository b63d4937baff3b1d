"""Predictions of a released model, as transformers load it."""
