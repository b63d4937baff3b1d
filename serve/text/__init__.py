"""From token ids to text, as they come: bytes, characters, stop sequences."""
