"""One inference-only forward pass per family, from the weights by the training model's names."""
