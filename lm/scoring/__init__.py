"""Score texts and continuations with a released model of any kind, and generate with it."""
