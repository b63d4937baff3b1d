"""Causal gated convolutions (Dauphin et al. 2017)."""
