"""What a model looks at: attributions, attention and embeddings of transformers' models."""
