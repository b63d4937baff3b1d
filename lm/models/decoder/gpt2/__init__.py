"""The GPT-2 architecture."""
