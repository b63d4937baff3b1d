"""Further formats of a released model: GGUF, checked before it is committed."""
