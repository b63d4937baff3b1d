"""A GRU encoder-decoder with additive attention (Bahdanau et al. 2015) for transformers.

This file is part of every exported folder. It needs torch and transformers, nothing else.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput


class GRUSeq2SeqConfig(PretrainedConfig):
    """The sizes of the model."""

    model_type = "gristmill-seq2seq-gru"

    def __init__(
        self,
        vocab_size: int = 256,
        hidden_size: int = 256,
        num_hidden_layers: int = 1,
        max_position_embeddings: int = 256,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.max_position_embeddings = max_position_embeddings
        super().__init__(**{"is_encoder_decoder": True, **kwargs})


class State:
    """The state of every layer of the decoder after the tokens so far, float[L, B, D]."""

    def __init__(self, tensor: Tensor, length: int) -> None:
        self.tensor, self.length = tensor, length

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        """Return the number of tokens that were read."""
        return self.length

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep the states of these rows: beam search calls it."""
        self.tensor = self.tensor.index_select(1, beam_idx)


class Encoder(nn.Module):
    """The embedding, and GRUs that read the source in both directions."""

    main_input_name = "input_ids"

    def __init__(self, config: GRUSeq2SeqConfig) -> None:
        super().__init__()
        size, layers = config.hidden_size, config.num_hidden_layers
        self.embed_tokens = nn.Embedding(config.vocab_size, size)
        self.layers = nn.GRU(size, size, layers, batch_first=True, bidirectional=True)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> BaseModelOutput:
        """Return the states of both directions, float[B, S, 2 D]; the mask is 0 at padding."""
        embedded = self.embed_tokens(input_ids)
        if attention_mask is None:
            return BaseModelOutput(last_hidden_state=self.layers(embedded)[0])
        if not attention_mask[:, 0].all():
            raise ValueError("padding on the left would be read as text: use padding on the right")
        lengths = attention_mask.sum(1).cpu()
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        states = pad_packed_sequence(
            self.layers(packed)[0], batch_first=True, total_length=input_ids.shape[1]
        )
        return BaseModelOutput(last_hidden_state=states[0])


class Decoder(nn.Module):
    """GRUs, of which the first attends to the source before each step, and a maxout layer."""

    def __init__(self, config: GRUSeq2SeqConfig) -> None:
        super().__init__()
        size, layers = config.hidden_size, config.num_hidden_layers
        self.start = nn.Linear(size, layers * size)
        self.query = nn.Linear(size, size, bias=False)
        self.key = nn.Linear(2 * size, size, bias=False)
        self.score = nn.Linear(size, 1, bias=False)
        self.cell = nn.GRUCell(3 * size, size)
        self.layers = nn.GRU(size, size, layers - 1, batch_first=True) if layers > 1 else None
        self.readout = nn.Linear(4 * size, 2 * size)

    def first_state(self, encoded: Tensor) -> Tensor:
        """Return the state before the first token, float[L, B, D]."""
        last = encoded[:, 0, encoded.shape[2] // 2 :]
        return torch.stack(torch.tanh(self.start(last)).split(last.shape[1], dim=1))

    def forward(
        self, embedded: Tensor, encoded: Tensor, mask: Tensor | None, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what the head reads, float[B, T, D], and the state after it."""
        keys, first = self.key(encoded), state[0]
        states, contexts = [], []
        for token in embedded.unbind(1):
            scores = self.score(torch.tanh(self.query(first)[:, None] + keys)).squeeze(2)
            if mask is not None:
                scores = scores.masked_fill(mask == 0, -torch.inf)
            context = (scores.softmax(1)[:, None] @ encoded).squeeze(1)
            first = self.cell(torch.cat([token, context], 1), first)
            states.append(first)
            contexts.append(context)
        hidden, ends = torch.stack(states, 1), first[None]
        if self.layers is not None:
            hidden, above = self.layers(hidden, state[1:].contiguous())
            ends = torch.cat([ends, above])
        read = self.readout(torch.cat([hidden, embedded, torch.stack(contexts, 1)], -1))
        return torch.maximum(*read.chunk(2, -1)), ends


class GRUForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """Ids of a source and of the target so far in, logits out."""

    config_class = GRUSeq2SeqConfig
    main_input_name = "input_ids"
    _tied_weights_keys = {"lm_head.weight": "encoder.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: GRUSeq2SeqConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> Any:
        """Return the embedding, of source and target."""
        return self.encoder.embed_tokens

    def get_output_embeddings(self) -> Any:
        """Return the head."""
        return self.lm_head

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Return what the decoder reads in order to predict the labels: the start and all but the last."""
        shifted = F.pad(labels[:, :-1], (1, 0), value=self.config.decoder_start_token_id)
        return shifted.masked_fill(shifted == -100, self.config.pad_token_id)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # there are no keys and values: the state is what it keeps

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        past_key_values: State | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,  # noqa: FBT001
        **_: Any,
    ) -> Seq2SeqLMOutput:
        """Return logits float[B, T, V]; padding of the source is on the right, 0 in the mask."""
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError("give decoder_input_ids, or labels")
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids, attention_mask)
        encoded: Any = encoder_outputs[0]
        if past_key_values is None:
            past_key_values = State(self.decoder.first_state(encoded), 0)
        hidden, state = self.decoder(
            self.encoder.embed_tokens(decoder_input_ids),
            encoded,
            attention_mask,
            past_key_values.tensor,
        )
        logits = self.lm_head(hidden)
        loss = None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        read = past_key_values.length + decoder_input_ids.shape[1]
        past: Any = None if use_cache is False else State(state, read)
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=past,
            encoder_last_hidden_state=encoded,
        )


GRUSeq2SeqConfig.register_for_auto_class()  # type: ignore[no-untyped-call]
GRUForConditionalGeneration.register_for_auto_class(  # type: ignore[no-untyped-call]
    "AutoModelForSeq2SeqLM"
)
