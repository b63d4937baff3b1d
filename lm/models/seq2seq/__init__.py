"""Encoder-decoders: what the architectures share, and one package per architecture."""
