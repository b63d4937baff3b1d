"""The Llama architecture."""
