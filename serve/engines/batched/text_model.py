"""What models say of whole texts: vectors, tokens in the place of masks, labels.

Texts are computed in batches of similar length, of which each is a piece of work.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from lm.models.embedding.corpus import WORD
from lm.models.embedding.files import WordVectors
from lm.models.heads.config import HeadConfig
from lm.models.heads.hf import run_hf_model
from lm.models.heads.model import mean_of_text
from lm.models.neural_lm import NeuralLM
from serve.engines.interface import Vector

MAX_BATCH_TOKENS = 1024  # about as long as some steps of generating sequences

Texts = Sequence[Sequence[int]]


class TextTasks(Protocol):
    """What the worker asks of a model beside generating; a model has some of the tasks."""

    def compute(self, task: str, texts: Texts) -> Iterator[Vector]:
        """Yield the rows of the answer to ``embed``, ``classify`` or ``tag``, in the order of the texts."""

    def fill_mask(self, ids: Sequence[int], num_top: int) -> list[list[tuple[int, float]]]:
        """See ``serve.engines.interface.TextModel``."""


class NeuralTasks:
    """A model in torch, by what it makes of rows of ids that are padded on the right with -1."""

    def __init__(
        self,
        outputs: Callable[[Tensor], Tensor],
        mask_logits: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Take the functions of a model.

        Args:
            outputs: rows int64[B, T] to float32[B, ...], what ``embed``, ``classify`` or ``tag`` returns.
            mask_logits: one row, int64[1, T], to the logits of its masks, float[n, V].
        """
        self._outputs, self._mask_logits = outputs, mask_logits

    def compute(self, task: str, texts: Texts) -> Iterator[Vector]:
        """See ``TextTasks``."""
        if task == "tag":
            with torch.inference_mode():
                yield self._outputs(torch.tensor(texts))[0].numpy()
            return
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        rows: dict[int, Vector] = {}
        while order:
            size = max(1, MAX_BATCH_TOKENS // max(1, len(texts[order[0]])))
            batch, order = order[:size], order[size:]
            # A text alone and among others of its length gives the same but for rounding.
            with torch.inference_mode():
                outputs = self._outputs(_pad([texts[number] for number in batch])).numpy()
            rows.update(zip(batch, outputs, strict=True))
            if order:
                yield np.zeros((0, *outputs.shape[1:]), np.float32)
        yield np.stack([rows[number] for number in range(len(texts))])

    def fill_mask(self, ids: Sequence[int], num_top: int) -> list[list[tuple[int, float]]]:
        """See ``TextTasks``."""
        assert self._mask_logits is not None
        with torch.inference_mode():
            p_nv = torch.softmax(self._mask_logits(torch.tensor([list(ids)])), -1)
            values, order = p_nv.topk(min(num_top, p_nv.shape[1]), dim=-1)
        return [
            list(zip(best, scores, strict=True))
            for best, scores in zip(order.tolist(), values.tolist(), strict=True)
        ]


def language_model_tasks(model: NeuralLM, mask_id: int | None) -> NeuralTasks:
    """Return the tasks of a language model: vectors, and the tokens in the place of masks if it has one."""

    def embed(rows_bt: Tensor) -> Tensor:
        states = model.text_states(rows_bt).float()
        return torch.nn.functional.normalize(mean_of_text(states, rows_bt), dim=-1)

    def predict_masks(row: Tensor) -> Tensor:
        positions = torch.eq(row[0], mask_id or 0).nonzero().T
        logits: Tensor = model(row, positions=positions)[0]
        return logits

    return NeuralTasks(embed, None if mask_id is None else predict_masks)


def head_tasks(model: Any, head: HeadConfig) -> NeuralTasks:
    """Return the tasks of a fine-tuned model of transformers, of ``lm.models.hf_auto.load_model``."""

    def outputs(rows_bt: Tensor) -> Tensor:
        output = run_hf_model(model, head, rows_bt)
        if head.task == "embedding":
            return output
        return output.sigmoid() if head.multi_label else output.softmax(-1)

    return NeuralTasks(outputs)


class WordVectorTasks:
    """Word vectors: a text's vector is the mean of those of its words."""

    def __init__(self, folder: Path) -> None:
        """Load a folder of word vectors."""
        self._vectors = WordVectors.load(folder)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def compute(self, task: str, texts: Texts) -> Iterator[Vector]:  # noqa: ARG002 - there is one
        """See ``TextTasks``."""
        yield np.stack([self._embed(ids) for ids in texts])

    def _embed(self, ids: Sequence[int]) -> Vector:
        words = WORD.findall(self._tokenizer.decode(list(ids)))
        known = [vector for word in words if (vector := self._vectors.vector(word)) is not None]
        mean = np.mean(known, axis=0) if known else np.zeros(self._vectors.vectors.shape[1])
        length = float(np.linalg.norm(mean))
        return np.asarray(mean / length if length else mean, np.float32)

    def fill_mask(self, ids: Sequence[int], num_top: int) -> list[list[tuple[int, float]]]:
        """Refuse: see ``serve.models.ServedModel``."""
        raise NotImplementedError("word vectors predict no tokens")


def _pad(texts: Texts) -> Tensor:
    rows = [torch.tensor(list(ids)) for ids in texts]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
