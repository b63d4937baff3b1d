"""Export to transformers, as all recurrent families are."""

from lm.models.recurrent.hf import to_hf_config, to_hf_weights

__all__ = ["to_hf_config", "to_hf_weights"]
