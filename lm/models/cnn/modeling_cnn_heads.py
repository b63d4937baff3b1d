"""Convolutional models that represent, classify or tag texts, for transformers; the mean stands for a text.

This file is part of exported folders. It needs torch and transformers, nothing else.
"""

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import (
    BaseModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)

from .modeling_cnn import GatedCNNConfig, GatedConvolution


class GatedCNNModel(PreTrainedModel):
    """Token ids in, hidden states out."""

    config_class = GatedCNNConfig
    main_input_name = "input_ids"

    def __init__(self, config: GatedCNNConfig) -> None:
        super().__init__(config)
        size = config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, size)
        self.layers = nn.ModuleList(
            GatedConvolution(config) for _ in range(config.num_hidden_layers)
        )
        self.norm = nn.RMSNorm(size, config.rms_norm_eps)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> Any:
        """Return the embedding."""
        return self.embed_tokens

    def read(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Return the hidden states, float[B, T, D]; padding belongs on the right."""
        if attention_mask is not None and not attention_mask[:, 0].all():
            raise ValueError("padding on the left would be read as text: pad on the right")
        states: Tensor = self.embed_tokens(input_ids)
        for layer in self.layers:
            states = layer(states)
        normed: Tensor = self.norm(states)
        return normed

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        **kwargs: Any,  # noqa: ARG002
    ) -> BaseModelOutput:
        """Return the hidden states."""
        states: Any = self.read(input_ids, attention_mask)
        return BaseModelOutput(last_hidden_state=states)


class GatedCNNForSequenceClassification(GatedCNNModel):
    """Token ids in, the logits of each text's labels out."""

    def __init__(self, config: GatedCNNConfig) -> None:
        super().__init__(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels or 2)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,  # noqa: ARG002 - pipelines pass more
    ) -> SequenceClassifierOutput:
        """Return logits float[B, L]."""
        states = self.read(input_ids, attention_mask)
        if attention_mask is None:
            pooled = states.mean(1)
        else:
            is_text = attention_mask.unsqueeze(-1).to(states.dtype)
            pooled = (states * is_text).sum(1) / is_text.sum(1)
        logits: Any = self.classifier(pooled)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class GatedCNNForTokenClassification(GatedCNNModel):
    """Token ids in, the logits of each token's tags out."""

    def __init__(self, config: GatedCNNConfig) -> None:
        super().__init__(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels or 2)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,  # noqa: ARG002 - pipelines pass more
    ) -> TokenClassifierOutput:
        """Return logits float[B, T, L]."""
        logits: Any = self.classifier(self.read(input_ids, attention_mask))
        loss = None if labels is None else self.loss_function(logits, labels, self.config)
        return TokenClassifierOutput(loss=loss, logits=logits)


GatedCNNModel.register_for_auto_class("AutoModel")  # type: ignore[no-untyped-call]
GatedCNNForSequenceClassification.register_for_auto_class(  # type: ignore[no-untyped-call]
    "AutoModelForSequenceClassification"
)
GatedCNNForTokenClassification.register_for_auto_class(  # type: ignore[no-untyped-call]
    "AutoModelForTokenClassification"
)
