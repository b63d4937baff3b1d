"""The BERT architecture."""
