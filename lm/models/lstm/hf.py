"""Export to transformers, as all recurrent families are."""

from lm.models.recurrent.hf import KIND, to_hf_config, to_hf_weights

__all__ = ["KIND", "to_hf_config", "to_hf_weights"]
