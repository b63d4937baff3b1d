"""Serve released models: an OpenAI-compatible endpoint, a chat page, and where the words come from."""
