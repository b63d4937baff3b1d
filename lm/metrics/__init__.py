"""Training metrics: throughput, FLOPs, goodput, and where they are logged."""
