"""What runs a model: one interface, and an engine per way of doing it."""
