"""Training data: its order, mixture, packing into rows, and loading."""
