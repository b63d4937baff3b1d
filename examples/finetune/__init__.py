"""Real data for every task of fine-tuning, from packages, and synthetic data where none exists."""
