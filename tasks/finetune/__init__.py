"""Fine-tuning: examples, training on them, metrics and baselines."""
