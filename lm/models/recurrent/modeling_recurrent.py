"""A recurrent language model for transformers: an embedding, ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``, a head.

This file is part of every exported folder. It needs torch and transformers, nothing else.
"""

from typing import Any

from torch import Tensor, nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

LAYERS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class RecurrentConfig(PretrainedConfig):
    """The sizes of the model; ``cell`` is rnn, lstm or gru."""

    model_type = "gristmill-recurrent"

    def __init__(
        self,
        cell: str = "lstm",
        vocab_size: int = 256,
        hidden_size: int = 256,
        num_hidden_layers: int = 1,
        max_position_embeddings: int = 256,
        **kwargs: Any,
    ) -> None:
        self.cell = cell
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.max_position_embeddings = max_position_embeddings
        super().__init__(**kwargs)


class State:
    """The state of every layer after the tokens so far; an LSTM has a pair of tensors."""

    def __init__(self, tensors: tuple[Tensor, ...], length: int) -> None:
        self.tensors, self.length = tensors, length

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        """Return the number of tokens that were read."""
        return self.length

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep the states of these rows: beam search calls it."""
        self.tensors = tuple(tensor.index_select(1, beam_idx) for tensor in self.tensors)


class RecurrentForCausalLM(PreTrainedModel, GenerationMixin):
    """Token ids in, logits out. The state starts at zero, or with ``past_key_values``."""

    config_class = RecurrentConfig
    main_input_name = "input_ids"
    _tied_weights_keys = {"lm_head.weight": "embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        size = config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, size)
        self.layers = LAYERS[config.cell](size, size, config.num_hidden_layers, batch_first=True)
        self.lm_head = nn.Linear(size, config.vocab_size)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> Any:
        """Return the embedding."""
        return self.embed_tokens

    def get_output_embeddings(self) -> Any:
        """Return the head."""
        return self.lm_head

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # there are no keys and values: the state is what it keeps

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: State | None = None,
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
        has_cell, read, state = self.config.cell == "lstm", 0, None
        if past_key_values is not None:
            read, state = past_key_values.length, past_key_values.tensors
        start = state if state is None or has_cell else state[0]
        hidden, end = self.layers(self.embed_tokens(input_ids), start)
        logits = self.lm_head(hidden[:, -logits_to_keep:] if logits_to_keep else hidden)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.vocab_size, **kwargs)
        kept = State(end if has_cell else (end,), read + input_ids.shape[1])
        past: Any = None if use_cache is False else kept
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=past)


RecurrentConfig.register_for_auto_class()  # type: ignore[no-untyped-call]
RecurrentForCausalLM.register_for_auto_class(  # type: ignore[no-untyped-call]
    "AutoModelForCausalLM"
)
