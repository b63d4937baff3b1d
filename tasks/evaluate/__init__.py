"""Evaluate: what the trained model knows of held-out documents, beside what counting knows."""
