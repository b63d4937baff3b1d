"""Tokenize: a byte-level BPE from the corpus itself, and the corpus as token shards."""
