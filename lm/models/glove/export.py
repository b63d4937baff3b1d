"""Export the vectors, as all families of word vectors are."""

from lm.models.embedding.export import FORMAT, PIPELINE_TAG, USAGE, describe, export, list_sizes

__all__ = ["FORMAT", "PIPELINE_TAG", "USAGE", "describe", "export", "list_sizes"]
