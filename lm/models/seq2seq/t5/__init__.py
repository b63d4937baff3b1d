"""The T5 architecture."""
