"""Export the vectors, as all families of word vectors are."""

from lm.models.embedding.export import FORMAT, KIND, USAGE, describe, export, list_sizes

__all__ = ["FORMAT", "KIND", "USAGE", "describe", "export", "list_sizes"]
