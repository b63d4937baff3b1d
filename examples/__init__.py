"""Examples: the input of the quickstart."""
