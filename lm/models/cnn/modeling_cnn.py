"""A language model of causal gated convolutions (Dauphin et al. 2017) for transformers.

This file is part of every exported folder. It needs torch and transformers, nothing else.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast


class GatedCNNConfig(PretrainedConfig):
    """The sizes of the model."""

    model_type = "gristmill-cnn"

    def __init__(
        self,
        vocab_size: int = 256,
        hidden_size: int = 256,
        num_hidden_layers: int = 1,
        kernel_size: int = 4,
        max_position_embeddings: int = 256,
        rms_norm_eps: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.kernel_size = kernel_size
        self.max_position_embeddings = max_position_embeddings
        self.rms_norm_eps = rms_norm_eps
        super().__init__(**kwargs)


class LastTokens:
    """The tokens that a next prediction depends on."""

    def __init__(self, ids: Tensor, length: int) -> None:
        self.ids, self.length = ids, length

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        """Return the number of tokens that were read."""
        return self.length

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep the tokens of these rows: beam search calls it."""
        self.ids = self.ids.index_select(0, beam_idx)


class GatedConvolution(nn.Module):
    """A convolution over the last positions, gated, added to the residual stream."""

    def __init__(self, config: GatedCNNConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.norm = nn.RMSNorm(size, config.rms_norm_eps)
        self.conv = nn.Conv1d(size, 2 * size, config.kernel_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the residual stream after it, float[B, T, D]."""
        before = self.conv.kernel_size[0] - 1
        channels = F.pad(self.norm(hidden).transpose(1, 2), (before, 0))
        return hidden + F.glu(self.conv(channels), dim=1).transpose(1, 2)


class GatedCNNForCausalLM(PreTrainedModel, GenerationMixin):
    """Token ids in, logits out."""

    config_class = GatedCNNConfig
    main_input_name = "input_ids"
    _tied_weights_keys = {"lm_head.weight": "embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: GatedCNNConfig) -> None:
        super().__init__(config)
        size = config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, size)
        self.layers = nn.ModuleList(
            GatedConvolution(config) for _ in range(config.num_hidden_layers)
        )
        self.norm = nn.RMSNorm(size, config.rms_norm_eps)
        self.lm_head = nn.Linear(size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> Any:
        """Return the embedding."""
        return self.embed_tokens

    def get_output_embeddings(self) -> Any:
        """Return the head."""
        return self.lm_head

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # there are no keys and values: the last tokens are what it keeps

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: LastTokens | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,  # noqa: FBT001
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Return logits float[B, K, V] of the last ``logits_to_keep`` positions (0: of all)."""
        if attention_mask is not None and not attention_mask[:, 0].all():
            raise ValueError(
                "padding on the left would be read as text: use texts of one length, or padding on "
                "the right"
            )
        new, ids, read = input_ids.shape[1], input_ids, 0
        if past_key_values is not None:
            ids, read = torch.cat([past_key_values.ids, input_ids], dim=1), past_key_values.length
        hidden = self.embed_tokens(ids)
        for layer in self.layers:
            hidden = layer(hidden)
        hidden = self.norm(hidden[:, -(logits_to_keep or new) :])
        logits = self.lm_head(hidden)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.vocab_size, **kwargs)
        needed = self.config.num_hidden_layers * (self.config.kernel_size - 1)
        past: Any = None if use_cache is False else LastTokens(ids[:, -needed:], read + new)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=past)


GatedCNNConfig.register_for_auto_class()  # type: ignore[no-untyped-call]
GatedCNNForCausalLM.register_for_auto_class(  # type: ignore[no-untyped-call]
    "AutoModelForCausalLM"
)
