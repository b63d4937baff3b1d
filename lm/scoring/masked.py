"""Score with a masked language model: the pseudo-log-likelihood of held-out text.

Salazar et al. 2020 (arXiv:1910.14659): each token is masked alone and predicted from all others. This is
no probability of the text, and not comparable with the bits per byte of a model that gives one.
A prediction takes a pass over its whole window, so a sample of the tokens is masked.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infra.formats.megatron import Positions, Tokens
from lm.models.hf_auto import load_model
from lm.models.single_thread import single_thread
from lm.models.transformers_lock import TRANSFORMERS_LOCK
from lm.scoring.language_model import Nats

MAX_BATCH_TOKENS = 8192


class MaskedModel:
    """A ``MaskedScorer``: a ``...ForMaskedLM`` of transformers in fp32 on the CPU."""

    def __init__(self, folder: Path, eos: int) -> None:
        """Load a folder that ``release`` wrote; ``eos`` ends documents."""
        with TRANSFORMERS_LOCK:
            from transformers.utils import logging

            logging.disable_progress_bar()
            self._model: Any = load_model(folder)
        self._eos = eos
        self._mask_id = int(self._model.config.vocab_size) - 1

    @property
    def eos(self) -> int:
        """See ``MaskedScorer``."""
        return self._eos

    @property
    def context_length(self) -> int:
        """Maximum number of tokens that it reads at once."""
        return int(self._model.config.max_position_embeddings)

    def score_tokens(
        self, documents: Sequence[Tokens], positions: Sequence[Positions]
    ) -> list[Nats]:
        """See ``MaskedScorer``; a long document is read in a window around the token."""
        results = [np.zeros(len(chosen)) for chosen in positions]
        jobs = [
            (*self._window(len(documents[number]), int(at)), number, index, int(at))
            for number, chosen in enumerate(positions)
            for index, at in enumerate(chosen)
        ]
        jobs.sort(key=lambda job: job[1] - job[0])  # those of one length together: no padding
        with torch.inference_mode(), single_thread():
            while jobs:
                length = jobs[0][1] - jobs[0][0]
                max_rows = max(1, MAX_BATCH_TOKENS // length)
                batch = [job for job in jobs[:max_rows] if job[1] - job[0] == length]
                del jobs[: len(batch)]
                rows = np.stack([documents[n][start:end] for start, end, n, _, _ in batch])
                nats = self._mask_and_score(
                    torch.from_numpy(rows.astype(np.int64)),
                    torch.tensor([at - start for start, _, _, _, at in batch]),
                )
                for (_, _, number, index, _), value in zip(batch, nats, strict=True):
                    results[number][index] = value
        return results

    def _window(self, length: int, at: int) -> tuple[int, int]:
        """Return the start and the end of the window with ``at`` in its middle, as far as possible."""
        size = min(length, self.context_length)
        start = min(max(0, at - size // 2), length - size)
        return start, start + size

    def _mask_and_score(self, rows_bt: Tensor, at_b: Tensor) -> Any:
        """Return float64[B], -ln p of the token at ``at_b`` of each row, which is masked."""
        row = torch.arange(len(rows_bt))
        wanted = rows_bt[row, at_b]
        rows_bt[row, at_b] = self._mask_id

        def keep_masked(_module: Any, _inputs: Any, outputs: Any) -> Any:
            outputs.last_hidden_state = outputs.last_hidden_state[row, at_b]
            return outputs

        # The head reads the masked position alone: all others' logits would be most of the work.
        with self._model.base_model.register_forward_hook(keep_masked):
            logits_bv = self._model(rows_bt).logits
        log_p = torch.log_softmax(logits_bv.double(), dim=-1)
        return -log_p[row, wanted].numpy()
