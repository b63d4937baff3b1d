"""Heads for other tasks than language modeling, on the hidden states of any family."""
