"""Long short-term memory (Hochreiter & Schmidhuber 1997)."""
