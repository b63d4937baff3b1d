"""The registry of models in the store: versions, and what the aliases ``champion`` and ``challenger`` name."""
