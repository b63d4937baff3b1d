"""Score and generate with an encoder-decoder: the decoder continues what the encoder reads.

A text is scored in pieces of the length that the decoder was trained to continue
(``continuation_length``): the encoder reads the tokens before a piece, as many as fit, and a sentinel; the
decoder reads the sentinel and predicts the piece. So every token is predicted exactly once, from tokens
before it alone, and the probabilities multiply to one of the whole text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infra.formats.megatron import Tokens
from lm.models.hf_auto import load_model
from lm.models.single_thread import single_thread
from lm.models.transformers_lock import TRANSFORMERS_LOCK
from lm.scoring.language_model import Continuation, GenerationConfig, Nats, sample_token

MAX_BATCH_TOKENS = 4096  # of sources


@dataclass(frozen=True)
class Piece:
    """Tokens ``[start, end)`` of a text are predicted from those before."""

    text: int
    start: int
    end: int


class Seq2SeqModel:
    """A ``LanguageModel``: a model of ``AutoModelForSeq2SeqLM`` in fp32 on the CPU."""

    def __init__(self, folder: Path, eos: int) -> None:
        """Load a folder that ``release`` wrote; ``eos`` ends documents and precedes their first token."""
        with TRANSFORMERS_LOCK:
            from transformers.utils import logging

            logging.disable_progress_bar()
            self._model: Any = load_model(folder)
        config = self._model.config
        self._eos, self._sentinel = eos, int(config.sentinel_token_id)
        self._length = int(config.continuation_length)

    @property
    def context_length(self) -> int:
        """See ``LanguageModel``."""
        return int(self._model.config.max_position_embeddings)

    def score_texts(self, documents: Sequence[Tokens]) -> list[Nats]:
        """See ``TextScorer``."""
        texts = [np.append(self._eos, ids).astype(np.int64) for ids in documents]
        return [nats for nats, _ in self._score(texts, [1] * len(texts))]

    def score_continuations(self, requests: Sequence[tuple[Tokens, Tokens]]) -> list[Continuation]:
        """See ``LanguageModel``."""
        prompts = [prompt if len(prompt) else np.array([self._eos]) for prompt, _ in requests]
        texts = [
            np.concatenate([prompt, continuation]).astype(np.int64)
            for prompt, (_, continuation) in zip(prompts, requests, strict=True)
        ]
        scored = self._score(texts, [len(prompt) for prompt in prompts])
        return [
            Continuation(float(nats.sum()), len(greedy), int(greedy.sum()))
            for nats, greedy in scored
        ]

    def _score(self, texts: Sequence[Tokens], firsts: Sequence[int]) -> list[tuple[Nats, Any]]:
        """Return float64[n] nats and bool[n], whether it is the greedy choice, of a text's tokens from first on."""
        results = [
            (np.zeros(len(ids) - first), np.zeros(len(ids) - first, bool))
            for ids, first in zip(texts, firsts, strict=True)
        ]
        with torch.inference_mode(), single_thread():
            for batch in self._batches(texts, firsts):
                sources = [self._source(texts[piece.text][: piece.start]) for piece in batch]
                targets = [texts[piece.text][piece.start : piece.end] for piece in batch]
                nats, greedy = self._predict(sources, targets)
                for row, piece in enumerate(batch):
                    first, size = firsts[piece.text], piece.end - piece.start
                    span = slice(piece.start - first, piece.end - first)
                    results[piece.text][0][span] = nats[row, :size]
                    results[piece.text][1][span] = greedy[row, :size]
        return results

    def _batches(self, texts: Sequence[Tokens], firsts: Sequence[int]) -> Iterator[list[Piece]]:
        """Yield all pieces; those of similar length form a batch, which minimizes padding."""
        pieces = [
            Piece(number, start, min(len(ids), start + self._length))
            for number, (ids, first) in enumerate(zip(texts, firsts, strict=True))
            for start in range(first, len(ids), self._length)
        ]
        pieces.sort(
            key=lambda piece: (min(piece.start, self.context_length), piece.end - piece.start)
        )
        size = max(1, MAX_BATCH_TOKENS // self.context_length)
        for at in range(0, len(pieces), size):
            yield pieces[at : at + size]

    def _source(self, before: Tokens) -> list[int]:
        """Return what the encoder reads to continue a text, as in training."""
        kept = before[-(self.context_length - self._length) :]
        return [*kept.tolist(), self._sentinel, self._eos]

    def _predict(self, sources: list[list[int]], targets: list[Tokens]) -> tuple[Any, Any]:
        """Return float64[B, K] nats and bool[B, K] greedy choices of the targets; padding on the right."""
        encoder = [torch.tensor(source) for source in sources]
        wanted_bk = _pad([torch.from_numpy(target) for target in targets])
        mask_bs = _pad([torch.ones_like(source) for source in encoder])
        start = torch.tensor([self._eos, self._sentinel]).expand(len(targets), 2)
        logits_btv = self._model(
            input_ids=_pad(encoder),
            attention_mask=mask_bs,
            decoder_input_ids=torch.cat([start, wanted_bk[:, :-1]], dim=1),
            use_cache=False,
        ).logits
        log_p = torch.log_softmax(logits_btv[:, 1:].double(), dim=-1)
        nats_bk = -log_p.gather(-1, wanted_bk[..., None])[..., 0]
        return nats_bk.numpy(), (log_p.argmax(-1) == wanted_bk).numpy()

    def generate(
        self, prompts: Sequence[Tokens], seeds: Sequence[int], generation: GenerationConfig
    ) -> list[list[int]]:
        """See ``LanguageModel``; after each continuation the encoder reads the text so far again."""
        with torch.inference_mode(), single_thread():
            return [
                self._generate_one(prompt, np.random.default_rng(seed), generation)
                for prompt, seed in zip(prompts, seeds, strict=True)
            ]

    def _generate_one(
        self, prompt: Tokens, rng: np.random.Generator, generation: GenerationConfig
    ) -> list[int]:
        ids: list[int] = []
        while len(ids) < generation.max_new_tokens:
            before = np.concatenate([[self._eos], prompt, ids]).astype(np.int64)
            source = torch.tensor([self._source(before)])
            encoded = self._model.get_encoder()(input_ids=source)
            read = [self._eos, self._sentinel]
            for _ in range(min(self._length, generation.max_new_tokens - len(ids))):
                logits = self._model(
                    encoder_outputs=encoded, decoder_input_ids=torch.tensor([read]), use_cache=False
                ).logits
                # A sentinel would not be text.
                text = logits[0, -1, : self._sentinel].double().numpy()
                ids.append(sample_token(text, rng, generation))
                read.append(ids[-1])
                if ids[-1] == self._eos:
                    return ids
        return ids


def _pad(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
