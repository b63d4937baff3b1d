"""Data sets: parts, ledgers, manifests, fingerprints, and the engine that makes them."""
