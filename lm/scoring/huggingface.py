"""Score and generate with a Hugging Face folder: the released model itself is measured."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infra.formats.megatron import Tokens
from lm.models.hf_auto import load_model
from lm.models.single_thread import single_thread
from lm.models.transformers_lock import TRANSFORMERS_LOCK
from lm.scoring.language_model import Continuation, GenerationConfig, Nats, sample_token

# Per batch: 32 MiB of fp32. Larger batches exceed the processor's caches and are slower.
MAX_BATCH_LOGITS = 1 << 23


@dataclass(frozen=True)
class Window:
    """The model reads inputs ``[start, end)``; its predictions from ``first`` on count."""

    start: int
    first: int
    end: int


def windows(length: int, context_length: int) -> list[Window]:
    """Return the windows in which ``length`` tokens are predicted, each once.

    All predictions of the first window count. The stride is half a context, so that every later
    prediction has at least ``context - context // 2`` tokens before it. Input i is the token before
    prediction i (for prediction 0, the end of text).
    """
    stride = max(1, context_length // 2)
    result = []
    first, end = 0, min(length, context_length)
    while first < length:
        result.append(Window(max(0, end - context_length), first, end))
        first, end = end, min(length, end + stride)
    return result


class HuggingFaceModel:
    """Scores and generates with ``AutoModelForCausalLM`` in fp32 on the CPU."""

    def __init__(self, folder: Path, eos: int) -> None:
        """Load a folder that ``release`` wrote; ``eos`` ends documents and precedes their first token."""
        with TRANSFORMERS_LOCK:
            from transformers.utils import logging

            logging.disable_progress_bar()
            self._model: Any = load_model(folder)
        self._eos = eos
        self._vocab_size = int(self._model.config.vocab_size)

    @property
    def context_length(self) -> int:
        """See ``LanguageModel``."""
        return int(self._model.config.max_position_embeddings)

    def score_texts(self, documents: Sequence[Tokens]) -> list[Nats]:
        """See ``TextScorer``; long texts are scored in ``windows``."""
        return [nats for nats, _ in self._score_windows(documents, [self._eos] * len(documents))]

    def score_continuations(self, requests: Sequence[tuple[Tokens, Tokens]]) -> list[Continuation]:
        """See ``LanguageModel``; a prompt that does not fit is truncated at the beginning, as in lm-eval."""
        requests_with_start = [
            (p[-max(1, self.context_length + 1 - len(c)) :], c)
            if len(p)
            else (np.array([self._eos]), c)
            for p, c in requests
        ]
        rests = [
            np.concatenate([prompt[1:], continuation])
            for prompt, continuation in requests_with_start
        ]
        scored = self._score_windows(rests, [int(prompt[0]) for prompt, _ in requests_with_start])
        return [
            Continuation(float(nats[-len(c) :].sum()), len(c), int(greedy[-len(c) :].sum()))
            if len(c)
            else Continuation(0.0, 0, 0)
            for (_, c), (nats, greedy) in zip(requests_with_start, scored, strict=True)
        ]

    def _score_windows(
        self, documents: Sequence[Tokens], first_ids: Sequence[int]
    ) -> list[tuple[Nats, Any]]:
        """Return float64[tokens] nats and bool[tokens], whether it is the greedy choice, per document.

        ``first_ids`` are the ids that precede the documents.
        """
        targets = [ids.astype(np.int64) for ids in documents]
        inputs = [
            np.concatenate([[first], ids[:-1]]).astype(np.int64)
            for first, ids in zip(first_ids, targets, strict=True)
        ]
        results = [(np.zeros(len(ids)), np.zeros(len(ids), bool)) for ids in targets]
        jobs = [
            (document, window)
            for document, ids in enumerate(targets)
            for window in windows(len(ids), self.context_length)
        ]
        # Similar windows form a batch, which minimizes padding and unused logits.
        jobs.sort(key=lambda job: (job[1].first - job[1].start, job[1].end - job[1].start))
        with torch.inference_mode(), single_thread():
            for batch in self._batches(jobs):
                skip = min(window.first - window.start for _, window in batch)
                length = max(window.end - window.start for _, window in batch)
                rows, wanted = torch.zeros((2, len(batch), length), dtype=torch.int64)
                for row, (document, window) in enumerate(batch):
                    span, size = slice(window.start, window.end), window.end - window.start
                    rows[row, :size] = torch.from_numpy(inputs[document][span])
                    wanted[row, :size] = torch.from_numpy(targets[document][span])
                nats, greedy = self._token_nats(rows, wanted[:, skip:])
                for row, (document, window) in enumerate(batch):
                    part = slice(
                        window.first - window.start - skip, window.end - window.start - skip
                    )
                    results[document][0][window.first : window.end] = nats[row, part]
                    results[document][1][window.first : window.end] = greedy[row, part]
        return results

    def _batches(self, jobs: list[tuple[int, Window]]) -> Iterator[list[tuple[int, Window]]]:
        batch: list[tuple[int, Window]] = []
        for job in jobs:
            length = job[1].end - job[1].start  # ascending among windows with equal first - start
            longest = max(length, *(item[1].end - item[1].start for item in batch), 1)
            if batch and (len(batch) + 1) * longest * self._vocab_size > MAX_BATCH_LOGITS:
                yield batch
                batch = []
            batch.append(job)
        if batch:
            yield batch

    def _token_nats(self, rows_bt: Tensor, targets_bk: Tensor) -> tuple[Any, Any]:
        """Return float64[B, K] nats and bool[B, K] greedy choices of the last K positions.

        Padding is on the right, where it does not affect a causal model.
        """
        kept = targets_bk.shape[1]
        logits_bkv = self._model(rows_bt, use_cache=False, logits_to_keep=kept).logits
        logits_bkv -= logits_bkv.amax(-1, keepdim=True)  # in place: logits take most of the memory
        wanted_bk = logits_bkv.gather(-1, targets_bk[..., None])[..., 0]
        nats_bk = logits_bkv.exp_().sum(-1).log() - wanted_bk
        return nats_bk.double().numpy(), (wanted_bk == 0).numpy()

    def generate(
        self, prompts: Sequence[Tokens], seeds: Sequence[int], generation: GenerationConfig
    ) -> list[list[int]]:
        """See ``LanguageModel``; prompts too long for the context are truncated at the beginning."""
        room = max(1, self.context_length - generation.max_new_tokens - 1)
        results: list[list[int]] = []
        with torch.inference_mode(), single_thread():
            for prompt, seed in zip(prompts, seeds, strict=True):
                start = np.concatenate([[self._eos], prompt]).astype(np.int64)[-room:]
                results.append(self._generate_one(start, np.random.default_rng(seed), generation))
        return results

    def _generate_one(
        self, start: Any, rng: np.random.Generator, generation: GenerationConfig
    ) -> list[int]:
        ids: list[int] = []
        step, past = torch.from_numpy(start)[None], None
        while len(ids) < min(generation.max_new_tokens, self.context_length - len(start)):
            out = self._model(step, past_key_values=past, use_cache=True, logits_to_keep=1)
            past = out.past_key_values
            ids.append(sample_token(out.logits[0, -1].double().numpy(), rng, generation))
            if ids[-1] == self._eos:
                break
            step = torch.tensor([[ids[-1]]])
        return ids
