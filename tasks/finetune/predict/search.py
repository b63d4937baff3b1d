"""Rankings of passages by the cosine of their vectors with a query's."""

from pathlib import Path

import torch

from lm.models.heads.config import HeadConfig
from tasks.finetune.entry import FinetuneEntry
from tasks.finetune.metrics.compute import Predictions
from tasks.finetune.metrics.retrieval import make_retrieval_test
from tasks.finetune.predict.load import load_released, run_in_batches
from tasks.finetune.selection import Selection

BLOCK_QUERIES = 256
MAX_RANKED = 100  # passages of a query that are kept


def rank_passages(folder: Path, selection: Selection, entry: FinetuneEntry) -> Predictions:
    """Return, for each distinct test query, the passages of the split, the nearest first."""
    released = load_released(folder)
    longest = released.tokenizer.model_max_length
    max_length = min(entry.model.max_length or longest, longest)
    head = HeadConfig("embedding", released.eos_id)
    test = make_retrieval_test(selection.test)

    def embed(texts: list[str]) -> torch.Tensor:
        rows = released.encoder.encode(texts, [None] * len(texts), max_length).rows
        return torch.stack(run_in_batches(released, head, rows))

    passages = embed(test.passages).T
    ranked: list[list[int]] = []
    for queries in embed(test.queries).split(BLOCK_QUERIES):  # not all scores are in memory at once
        order = (queries @ passages).argsort(dim=1, descending=True, stable=True)
        ranked += order[:, :MAX_RANKED].tolist()
    return Predictions(ranked)
